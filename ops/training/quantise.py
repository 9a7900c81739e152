"""Quantisation-aware networks: the integer model's arithmetic with straight-through gradients.

Everything between two operations is a whole number, as in the exported model: u8 activations, s8
weights, the Int16 trunk, 15-bit multipliers. Steps of weights and activations are learned (LSQ);
their gradients follow from the chain rule because a step appears both where a value is divided by
it and, folded into the next weights, where the value is used.

In float64 the forward pass equals the exported model exactly; in float32 a product of more than
24 bits may round differently in rare cases.
"""

import copy
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import nn
from torch.nn import functional as F

from flow import INPUT_GAIN, SHORTCUT_GAIN, ResidualNetwork, RoundThrough, StaticPrior

LATENT_LIMIT = 1023
WEIGHT_LIMIT = 127
ACTIVATION_LIMIT = 255
INT16 = (-32768, 32767)
MULTIPLIER_LIMIT = 32767
LARGEST_SHIFT, LARGEST_POWER = 31, 46

# Multipliers are below one: no weight step may exceed the output step. Training moves both a little.
LARGEST_RATIO = 0.9

# The trunk has room for values larger, by this factor, than those that calibration sees. A result
# cannot exceed its multiplier, and the largest multiplier is above 2^14.
TRUNK_ROOM = 1.25
TRUNK_LIMIT = 2**14 / TRUNK_ROOM

# Channels whose ratio is below this part of the largest have died.
LEAST_ALIVE = 2.0**-10

# The finest weight step in output steps; finer ones, of weights near zero, would only push biases
# out of 32 bits.
FINEST_RATIO = 2.0**-16

# What a bias may come to, beside sums of products (below 2^28), without leaving 32 bits.
LARGEST_BIAS = 2.0**31 - 2.0**28

# The share of a channel's activations below the largest whole number, which is a tenth of the largest
# activation at least.
COVERED = 0.9999
LEAST_COVERED = 0.1

# Fractional bits of the trunk below the activations made from it.
TRUNK_BITS = 3


# Fractional bits of a translation that is the sum of a shortcut and a network's result: it is
# rounded to whole pixels once, after the sum.
SUM_BITS = 4


@dataclass(frozen=True)
class Headroom:
    """How a layer's multipliers share the 16 bits of the shifted accumulator.

    A result of channel c cannot exceed its multiplier, since the shifted sum saturates in Int16; a
    small multiplier leaves fractional bits in the shifted sum, a large one leaves range.
    """

    bits: int  # of the largest multiplier
    needed: float  # every multiplier is at least this
    spread: float | None = None  # output steps are coarsened until multipliers ≤ spread · median


TRUNK = Headroom(15, 2 * ACTIVATION_LIMIT * 2**TRUNK_BITS, 2.0)
HIDDEN = Headroom(14, ACTIVATION_LIMIT + 1, 4.0)
TRANSLATION = Headroom(12, 512)
SUMS = Headroom(15, 512 * 2**SUM_BITS)  # translations in 1/16 pixel
MEANS, INDICES = Headroom(15, 8192), Headroom(15, 256)


class ExactConvolution(torch.autograd.Function):
    """Convolution of whole numbers; forward in full precision, backward optionally in bf16."""

    @staticmethod
    def forward(context, x, weight, low_precision):
        context.save_for_backward(x, weight)
        context.low_precision = low_precision
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        border = weight.shape[-1] // 2
        if context.low_precision:
            gradient, x, weight = gradient.bfloat16(), x.bfloat16(), weight.bfloat16()
        mask = (context.needs_input_grad[0], True, False)
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, (1, 1), (border, border), (1, 1), False, (0, 0), 1, mask
        )
        kind = context.saved_tensors[1].dtype
        return None if to_x is None else to_x.to(kind), to_weight.to(kind), None


class Requantise(torch.autograd.Function):
    """clamp((sat16(⌊(acc + bias)/2^shift⌋)·m + 2^14) >> 15) with gradients inside the ranges."""

    @staticmethod
    def forward(context, accumulator, bias, multiplier, scale, activation):
        """`scale` is 2^−shift, a tensor."""
        shifted = (accumulator + bias).mul_(scale).floor_().clamp_(*INT16)
        result = (shifted * multiplier).add_(2.0**14).mul_(2.0**-15).floor_()
        # Only activations are clamped; after a multiplier below one, Int16 stays Int16.
        clamped = result.clamp(0, ACTIVATION_LIMIT) if activation else result
        inside = result == clamped if activation else None
        context.save_for_backward(shifted, inside, multiplier, scale)
        return clamped

    @staticmethod
    def backward(context, gradient):
        shifted, inside, multiplier, scale = context.saved_tensors
        if inside is not None:
            gradient = gradient * inside
        to_multiplier = (gradient * shifted).sum((0, 2, 3), keepdim=True) * 2.0**-15
        to_accumulator = gradient * (multiplier * scale * 2.0**-15)
        to_bias = to_accumulator.sum((0, 2, 3), keepdim=True)
        return to_accumulator, to_bias, to_multiplier, None, None


class Rescale(torch.autograd.Function):
    """clamp((v·m + 2^14) >> 15, 0, 255): the trunk's ReLU and step change."""

    @staticmethod
    def forward(context, value, multiplier):
        result = (value * multiplier).add_(2.0**14).mul_(2.0**-15).floor_()
        clamped = result.clamp(0, ACTIVATION_LIMIT)
        context.save_for_backward(value, result == clamped, multiplier)
        return clamped

    @staticmethod
    def backward(context, gradient):
        value, inside, multiplier = context.saved_tensors
        gradient = gradient * inside
        to_multiplier = (gradient * value).sum((0, 2, 3), keepdim=True) * 2.0**-15
        return gradient * (multiplier * 2.0**-15), to_multiplier


def by_channel(x):
    return x.view(1, -1, 1, 1)


class QuantisedConvolution(nn.Module):
    """A convolution and its requantisation; learned weight steps.

    The parameters keep the float network's units, so that one learning rate suits all; `gain`,
    `bias_gain` and `offset` [O] turn them into the integer model's.
    """

    round_weights = True  # false in the stage that quantises activations only

    def __init__(self, convolution, bits, needed, gain=1.0, bias_gain=1.0, offset=0.0):
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.detach().clone())
        self.bias = nn.Parameter(convolution.bias.detach().clone())
        self.log_step = nn.Parameter(torch.zeros_like(self.bias))
        self.multiplier_bits = bits
        scalars = {"needed": needed, "gain": gain, "bias_gain": bias_gain, "offset": offset}
        for name, value in scalars.items():
            self.register_buffer(name, value * torch.ones_like(self.bias.data))
        # Looked up, powers of two are exact; and a shift stays a tensor, so a step can be compiled.
        exponents = torch.arange(-LARGEST_POWER, LARGEST_POWER + 1)
        self.register_buffer("powers", (2.0**exponents).to(self.weight), persistent=False)

    def power(self, exponent):
        """2^exponent of a whole number between ±LARGEST_POWER, a tensor."""
        return self.powers.index_select(0, (exponent + LARGEST_POWER).view(1)).view(())

    def unit(self, input_steps):
        """Output units per activation step that a weight of 1 stands for, [O, I, 1, 1]."""
        return self.gain.view(-1, 1, 1, 1) * input_steps.view(1, -1, 1, 1)

    def scaled_weight(self, input_steps):
        """Weights in output units per activation step."""
        return self.weight * self.unit(input_steps)

    def calibrate(self, input_steps, output_steps):
        """Sets the weight steps to the largest weight / 127, or more where headroom needs it."""
        ratio = self.finest_steps(input_steps) / output_steps
        least = ratio.max() * self.needed / 2.0 ** (self.multiplier_bits - 1)
        least = least.clamp(min=FINEST_RATIO)
        self.log_step.data.copy_(torch.log(torch.maximum(ratio, least) * output_steps))

    def finest_steps(self, input_steps):
        """The smallest weight steps [O] that need no clamp of weights."""
        largest = self.scaled_weight(input_steps).abs().amax((1, 2, 3))
        return largest.clamp(min=1e-9) / WEIGHT_LIMIT

    def bias_and_step(self):
        """Biases in output units, and the weight steps, which keep them inside 32 bits; [O]."""
        bias = self.bias * self.bias_gain + self.offset
        return bias, torch.maximum(self.log_step.exp(), bias.detach().abs() / LARGEST_BIAS)

    def real_weight(self, input_steps):
        """Weights in weight steps, not rounded, [O, I, k, k]."""
        return self.scaled_weight(input_steps) / self.bias_and_step()[1].view(-1, 1, 1, 1)

    def set_whole(self, weight, added, input_steps):
        """Takes over weights in weight steps, and adds to the biases, in the same unit."""
        step = self.bias_and_step()[1]
        self.weight.copy_(weight * step.view(-1, 1, 1, 1) / self.unit(input_steps))
        self.bias.add_(added * step / self.bias_gain)

    def integers(self, input_steps, output_steps):
        """Weights [O, I, k, k], bias [O], multiplier [O] as whole numbers with gradients; shift, a tensor."""
        bias, step = self.bias_and_step()
        weight = self.real_weight(input_steps).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        weight = RoundThrough.apply(weight) if self.round_weights else weight
        ratio = step / output_steps
        _, exponent = torch.frexp(ratio.detach().max())  # 2^(exponent − 1) ≤ the largest
        shift = (self.multiplier_bits - 15 - exponent).clamp(0, LARGEST_SHIFT)
        real = (ratio * self.power(shift + 15)).clamp(1, MULTIPLIER_LIMIT)
        multiplier = RoundThrough.apply(real)
        half = torch.floor(self.power(shift - 1))  # none without a shift
        bias = RoundThrough.apply(bias / step) + half
        return weight, bias, multiplier, shift

    def coarsened(self, input_steps, output_steps, spread):
        """Output steps, larger where the multiplier would pass `spread` times the median or 1.

        Weight decay leaves channels without weights; they have no part in the median.
        """
        finest = self.finest_steps(input_steps)
        ratio = finest / output_steps
        alive = ratio[ratio >= LEAST_ALIVE * ratio.max()]
        limit = (spread * alive.median()).clamp(max=LARGEST_RATIO)
        return torch.maximum(output_steps, finest / limit)

    def forward(self, x, input_steps, output_steps, activation, low_precision):
        weight, bias, multiplier, shift = self.integers(input_steps, output_steps)
        accumulator = ExactConvolution.apply(x, weight, low_precision)
        return Requantise.apply(
            accumulator, by_channel(bias), by_channel(multiplier), self.power(-shift), activation
        )


class QuantisedNetwork(nn.Module):
    """The integer twin of a `ResidualNetwork`.

    Steps are per channel: `trunk_step` fixed at calibration, `log_rescale` of the activations made
    from the trunk (one row per block and one for the last convolution), `log_hidden` of those
    inside a block.
    """

    low_precision_backward = False

    def __init__(self, network, prior):
        super().__init__()
        self.first = layer(network.first, TRUNK, gain=INPUT_GAIN)
        self.inner = nn.ModuleList(
            nn.ModuleList([layer(one, HIDDEN), layer(two, TRUNK)])
            for one, two in network.inner
        )
        self.sum_bits = SUM_BITS if network.shortcut is not None and not prior else 0
        self.last = output_layer(network, prior)
        self.shortcut = network.shortcut and shortcut_layer(network, prior)
        channels, blocks = len(network.first.bias), len(network.inner)
        kind = network.first.weight.dtype
        self.log_rescale = nn.Parameter(torch.zeros(blocks + 1, channels, dtype=kind))
        self.log_hidden = nn.ParameterList(
            torch.zeros(one.out_channels, dtype=kind) for one, _ in network.inner
        )
        self.register_buffer("trunk_step", torch.ones(channels, dtype=kind))
        self.register_buffer("input_step", torch.ones(network.first.in_channels, dtype=kind))
        step = torch.full_like(network.last.bias.data, 2.0**-self.sum_bits)
        self.register_buffer("output_step", step)

    def calibrate(self, network, latents):
        """Chooses all steps from what the float network does on the given latents."""
        trunk = network.first(latents * INPUT_GAIN)
        trunks, hidden, parts = [trunk], [], [trunk]
        for one, two in network.inner:
            hidden.append(F.relu(one(F.relu(trunk))))
            parts.append(two(hidden[-1]))
            trunk = trunk + parts[-1]
            trunks.append(trunk)
        rescale = torch.stack([activation_step(F.relu(t)) for t in trunks])
        largest = torch.stack([t.abs().amax((0, 2, 3)) for t in trunks + parts]).amax(0)
        trunk_step = torch.maximum(rescale.amin(0) / 2**TRUNK_BITS, largest / TRUNK_LIMIT)
        trunk_step = self.first.coarsened(self.input_step, trunk_step, TRUNK.spread)
        for n, (one, two) in enumerate(self.inner):
            inside = one.coarsened(rescale[n], activation_step(hidden[n]), HIDDEN.spread)
            self.log_hidden[n].data.copy_(inside.log())
            one.calibrate(rescale[n], inside)
            trunk_step = two.coarsened(inside, trunk_step, TRUNK.spread)
        rescale = torch.maximum(rescale, trunk_step / LARGEST_RATIO)
        self.log_rescale.data.copy_(rescale.log())
        self.trunk_step.copy_(trunk_step)
        for convolution in (self.first, *(two for _, two in self.inner)):
            convolution.needed.copy_((TRUNK_ROOM * largest / trunk_step).clamp(min=TRUNK.needed))
        self.first.calibrate(self.input_step, trunk_step)
        for n, (one, two) in enumerate(self.inner):
            one.calibrate(rescale[n], self.log_hidden[n].exp())
            two.calibrate(self.log_hidden[n].exp(), trunk_step)
        self.last.calibrate(rescale[-1], self.output_step)
        if self.shortcut is not None:
            self.shortcut.calibrate(self.input_step, self.output_step)

    def rescale_multiplier(self, n):
        real = self.trunk_step * torch.exp(-self.log_rescale[n]) * 2.0**15
        return RoundThrough.apply(real.clamp(1, MULTIPLIER_LIMIT))

    def forward(self, latents):
        low = self.low_precision_backward
        rescale, hidden = self.log_rescale.exp(), [log.exp() for log in self.log_hidden]
        seen = latents.clamp(-LATENT_LIMIT, LATENT_LIMIT)
        trunk = self.first(seen, self.input_step, self.trunk_step, False, low)
        for n, (one, two) in enumerate(self.inner):
            x = Rescale.apply(trunk, by_channel(self.rescale_multiplier(n)))
            x = one(x, rescale[n], hidden[n], True, low)
            x = two(x, hidden[n], self.trunk_step, False, low)
            trunk = (trunk + x).clamp(*INT16)
        x = Rescale.apply(trunk, by_channel(self.rescale_multiplier(len(self.inner))))
        result = self.last(x, rescale[-1], self.output_step, False, low)
        if self.shortcut is None:
            return result
        linear = self.shortcut(seen, self.input_step, self.output_step, False, low)
        return RoundThrough.apply((linear + result).clamp(*INT16) * 2.0**-self.sum_bits)

    def write(self, writer):
        """Appends the operations and tensors of the integer model."""
        rescale, hidden = self.log_rescale.exp(), [log.exp() for log in self.log_hidden]
        step = self.trunk_step
        if self.shortcut is not None:
            linear = writer.convolution(
                "shortcut", self.shortcut, "latents", self.input_step, self.output_step, "i16"
            )
        trunk = writer.convolution("first", self.first, "latents", self.input_step, step, "i16")
        for n, (one, two) in enumerate(self.inner):
            x = writer.rescale(f"b{n}", self.rescale_multiplier(n), trunk)
            x = writer.convolution(f"b{n}.one", one, x, rescale[n], hidden[n], "u8")
            x = writer.convolution(f"b{n}.two", two, x, hidden[n], step, "i16")
            trunk = writer.append("add", input=trunk, other=x)
        x = writer.rescale("last", self.rescale_multiplier(len(self.inner)), trunk)
        x = writer.convolution("last", self.last, x, rescale[-1], self.output_step, "i16")
        if self.shortcut is not None:
            x = writer.append("add", input=linear, other=x)
        if self.sum_bits:
            writer.append("round", input=x, bits=self.sum_bits)


class QuantisedStaticPrior(StaticPrior):
    """A `StaticPrior` of whole numbers."""

    def values(self):
        return RoundThrough.apply(super().values())


def layer(convolution, headroom, **units):
    return QuantisedConvolution(convolution, headroom.bits, headroom.needed, **units)


def output_layer(network, prior):
    """The last convolution of a float network, to translations or to means and scale indices."""
    gain, offset = network.gain.flatten(), network.offset.flatten()
    units = {"gain": gain, "bias_gain": gain, "offset": offset}
    headroom = result_headroom(network, prior)
    return QuantisedConvolution(network.last, *headroom, **units)


def shortcut_layer(network, prior):
    """The convolution of the latents that is added to the result."""
    gain = network.gain.flatten()
    units = {"gain": gain * SHORTCUT_GAIN, "bias_gain": gain}
    return QuantisedConvolution(network.shortcut, *result_headroom(network, prior), **units)


def result_headroom(network, prior):
    """Bits of the largest multiplier, and what the multipliers of a network's result need."""
    if not prior:
        summed = getattr(network, "shortcut", None) is not None
        headroom = SUMS if summed else TRANSLATION
        return headroom.bits, headroom.needed
    needed = torch.full_like(network.gain.flatten(), MEANS.needed)
    needed[len(needed) // 2 :] = INDICES.needed
    return MEANS.bits, needed


def activation_step(activation):
    """Per-channel step that covers all but the largest activations seen; dead channels get a floor.

    The few that are left out are worth less than finer steps are for all others.
    """
    values = activation.detach().transpose(0, 1).flatten(1)
    rank = max(1, int((1 - COVERED) * values.shape[1]))
    top = values.topk(rank).values[:, -1].clamp(min=LEAST_COVERED * values.amax(1))
    return top.clamp(min=0.05 * top.mean().item() + 1e-6) / ACTIVATION_LIMIT


@singledispatch
def network_twin(network, prior):
    """The uncalibrated integer twin of a float network; each kind of network registers its own."""
    raise TypeError(f"{type(network).__name__} has no integer twin")


network_twin.register(ResidualNetwork, QuantisedNetwork)


def integer_twin(flow):
    """An uncalibrated integer twin of a float flow, on its device."""
    twin = copy.deepcopy(flow)
    for level in twin.levels:
        for n, network in enumerate(level.couplings):
            level.couplings[n] = network_twin(network, prior=False)
        for n, network in enumerate(level.priors):
            if isinstance(network, StaticPrior):
                level.priors[n] = QuantisedStaticPrior(len(network.parameters_) // 2)
                level.priors[n].load_state_dict(network.state_dict())
            else:
                level.priors[n] = network_twin(network, prior=True)
    return twin.to(next(flow.parameters()))


def quantised(flow, images):
    """An integer twin of a float flow, calibrated on u8 images [N, 3, H, W]."""
    twin = integer_twin(flow)
    seen = {}
    handles = [
        network.register_forward_pre_hook(lambda m, inputs: seen.update({m: inputs[0]}))
        for _, network in flow.networks()
    ]
    with torch.no_grad():
        flow(images)
        for (_, network), (_, integer) in zip(flow.networks(), twin.networks()):
            integer.calibrate(network, seen[network])
    for handle in handles:
        handle.remove()
    return twin
