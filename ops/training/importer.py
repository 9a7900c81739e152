"""Reads a model file back into the quantised flow that it was exported from.

Training continues from the model file alone: `export.model_parts` of an imported flow gives the
file's integers again, with today's CDF tables. A network computes the same when a channel of its trunk, or one inside a
block, changes its unit; these units are not in the file and are chosen here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from export import model_parts
from flow import (
    Flow, FlowShape, Level, LevelPlan, LevelShape, NetworkShape, ResidualNetwork, StepPlan,
    coupling_units, prior_units,
)
from quantise import QuantisedConvolution, QuantisedNetwork, QuantisedStaticPrior

# Root mean square of the weights into one channel: about the median of the networks as they were
# trained. Adam's steps do not follow the weights' size, so the rate suits weights of this size.
WEIGHT_SIZE = 0.1


@dataclass(frozen=True)
class Layer:
    """A convolution and its requantisation as they stand in the file, in float64."""

    weight: torch.Tensor  # [O, I, 3, 3]
    bias: torch.Tensor  # [O]
    multiplier: torch.Tensor  # [O]
    shift: int

    def multiplier_bits(self, usual):
        """Bits of the largest multiplier; the usual unless the file has other headroom."""
        largest = int(self.multiplier.max())
        if largest == 2**usual or self.shift in (0, 31):
            return usual
        return largest.bit_length()

    def ratio(self, bits):
        """Weight steps divided by output steps, [O].

        A multiplier just below 2^bits may have been rounded up to it; the ratio stays below, as
        the shift is chosen from it.
        """
        below = torch.where(self.multiplier == 2.0**bits, self.multiplier - 0.25, self.multiplier)
        return below * 2.0 ** -(15 + self.shift)


def import_flow(model, name):
    """The quantised float64 flow of an `IntegerModel`; ValueError if it cannot be one."""
    tensors = {key: tensor.double() for key, tensor in model.tensors.items()}
    flags = (model.flow.get(f, False) for f in ("correctsScales", "correctsMeans", "mirrors"))
    flow = Flow(FlowShape(name, (), model.flow["colour"], *flags))
    channels = model.flow["channels"]
    for level in model.flow["levels"]:
        channels *= 4
        flow.levels.append(import_level(level, channels, tensors))
        channels = level["keep"]
    flow.double()
    require_equal(model, *model_parts(flow))
    return flow


def import_level(level, channels, tensors):
    """A `Level` with quantised networks from its description."""
    plan = LevelPlan(
        channels,
        [StepPlan(step["context"], step["target"]) for step in level["steps"]],
        level.get("order", list(range(channels))),
        level["keep"],
        [group["channels"] for group in level["groups"]],
    )
    # Every network of a file may have widths of its own, so the level's are built without any.
    narrow = NetworkShape(1, ())
    result = Level(plan, LevelShape(narrow, narrow, len(plan.groups), steps=len(plan.steps)))
    result.couplings = nn.ModuleList(
        import_network(step["network"], coupling_units(len(step["target"])), False, tensors)
        for step in level["steps"]
    )
    result.priors = nn.ModuleList(import_prior(group, tensors) for group in level["groups"])
    return result


def import_prior(group, tensors):
    if "network" in group:
        return import_network(group["network"], prior_units(group["channels"]), True, tensors)
    prior = QuantisedStaticPrior(group["channels"]).double()
    prior.parameters_.data.copy_((tensors[group["static"]] - prior.offset) / prior.gain)
    return prior


def import_network(network, units, prior, tensors):
    """A `QuantisedNetwork` that computes what the operations of the file compute."""
    parts, rescales, shortcut = residual_layers(network["ops"], tensors)
    first, *inner, last = parts
    outputs, inputs = len(last.bias), first.weight.shape[1]
    hidden = tuple(len(one.bias) for one in inner[::2])
    shape = NetworkShape(len(first.bias), hidden, shortcut is not None)
    residual = ResidualNetwork(inputs, outputs, shape, *units).double()
    result = QuantisedNetwork(residual, prior)
    layers = [result.first, *(layer for pair in result.inner for layer in pair), result.last]
    if shortcut is not None:
        layers.append(result.shortcut)
        parts.append(shortcut)
    for layer, part in zip(layers, parts, strict=True):
        layer.multiplier_bits = part.multiplier_bits(layer.multiplier_bits)

    trunk = channel_steps(result.first, first, result.input_step)
    result.trunk_step.copy_(trunk)
    restore(result.first, first, result.input_step, trunk)
    rescale = [trunk * 2.0**15 / multiplier for multiplier in rescales]
    result.log_rescale.data.copy_(torch.stack(rescale).log())
    for n, (one, two) in enumerate(result.inner):
        hidden = channel_steps(one, inner[2 * n], rescale[n])
        result.log_hidden[n].data.copy_(hidden.log())
        restore(one, inner[2 * n], rescale[n], hidden)
        restore(two, inner[2 * n + 1], hidden, trunk)
    restore(result.last, last, rescale[-1], result.output_step)
    if shortcut is not None:
        restore(result.shortcut, shortcut, result.input_step, result.output_step)
    return result


def residual_layers(ops, tensors):
    """Of a residual network: its layers (first, two of each block, last), rescale multipliers, and
    the layer of its shortcut or None."""
    names = [op["op"] for op in ops]
    layer, block = ["convolution", "requantise"], ["rescale"] + 2 * ["convolution", "requantise"]
    blocks = names.count("rescale") - 1
    plain = layer + blocks * (block + ["add"]) + ["rescale"] + layer
    shortcut = names[: len(plain) + 3] == layer + plain + ["add"]
    if not shortcut and names != plain:
        raise ValueError("only residual networks can be fine-tuned")
    convolutions = [op for op in ops if op["op"] == "convolution"]
    requantised = [op for op in ops if op["op"] == "requantise"]
    layers = [
        Layer(tensors[c["weight"]], tensors[c["bias"]], tensors[r["multiplier"]], r["shift"])
        for c, r in zip(convolutions, requantised)
    ]
    rescales = [tensors[op["multiplier"]] for op in ops if op["op"] == "rescale"]
    return (layers[1:], rescales, layers[0]) if shortcut else (layers, rescales, None)


def channel_steps(layer, parts, input_steps):
    """Output steps [O] that give the weights into each channel the size WEIGHT_SIZE.

    Channels without weights get the step of the largest ones; without any, the choice is free.
    """
    ratio = parts.ratio(layer.multiplier_bits) / layer.gain
    weight = parts.weight * ratio.view(-1, 1, 1, 1) / input_steps.view(1, -1, 1, 1)
    size = weight.square().mean((1, 2, 3)).sqrt()
    largest = size.max() if size.any() else torch.ones_like(size[0])
    return WEIGHT_SIZE / torch.where(size > 0, size, largest)


def restore(layer, parts, input_steps, output_steps):
    """Sets a layer's parameters so that `QuantisedConvolution.integers` gives the file's parts."""
    step = parts.ratio(layer.multiplier_bits) * output_steps
    unit = (step / layer.gain).view(-1, 1, 1, 1) / input_steps.view(1, -1, 1, 1)
    half = 2.0 ** (parts.shift - 1) if parts.shift > 0 else 0.0
    layer.log_step.data.copy_(step.log())
    layer.weight.data.copy_(parts.weight * unit)
    layer.bias.data.copy_(((parts.bias - half) * step - layer.offset) / layer.bias_gain)


def require_equal(model, flow, tensors):
    """Raises ValueError unless description and tensors, but for the CDF's, are the model's own."""
    if flow != model.flow:
        raise ValueError("the networks are wired in another way than the exporter's")
    for name, array in model.arrays.items():
        of_network = not name.startswith("cdf.")
        if of_network and (name not in tensors or not np.array_equal(tensors[name], array)):
            raise ValueError(f"{name}: cannot be expressed by the quantised network")
