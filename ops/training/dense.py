"""Densely connected networks, the `densenet` of IDF, as floats and as integers.

The published network joins the latents with the results of every layer. Here everything joined
is an activation of 8 bits, so the latents enter through a learned 1×1 convolution and a ReLU, as
many channels as there are latents. It starts as x/64 + 2 (x in pixels): nothing of ±128 pixels is
lost, and the 8 bits have steps of one pixel there. Every other layer is the published one.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from flow import INPUT_GAIN
from quantise import (
    HIDDEN, LATENT_LIMIT, QuantisedNetwork, activation_step, layer, network_twin, output_layer,
)

FIRST_ENTRY_BIAS = 128 * INPUT_GAIN


@dataclass(frozen=True)
class DenseShape:
    """A dense network: its layers, and the channels that all of them add together."""

    depth: int
    channels: int

    def growths(self):
        """Channels that each layer adds: ⌊what is left / layers left⌋, as published."""
        left, result = self.channels, []
        for layers in range(self.depth, 0, -1):
            result.append(left // layers)
            left -= result[-1]
        return result

    def network(self, inputs, outputs, gain, offset):
        return DenseNetwork(inputs, outputs, self, gain, offset)


class DenseNetwork(nn.Module):
    """Entry; layers of 1×1 n → n, ReLU, 3×3 n → growth, ReLU, join; 3×3 of everything joined."""

    def __init__(self, inputs, outputs, shape, gain, offset):
        super().__init__()
        self.entry = nn.Conv2d(inputs, inputs, 1)
        self.inner, joined = nn.ModuleList(), inputs
        for growth in shape.growths():
            one = nn.Conv2d(joined, joined, 1)
            self.inner.append(nn.ModuleList([one, nn.Conv2d(joined, growth, 3, padding=1)]))
            joined += growth
        self.last = nn.Conv2d(joined, outputs, 3, padding=1)
        self.register_buffer("gain", gain.view(1, -1, 1, 1))
        self.register_buffer("offset", offset.view(1, -1, 1, 1))
        nn.init.dirac_(self.entry.weight)
        nn.init.constant_(self.entry.bias, FIRST_ENTRY_BIAS)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, latents):
        joined = F.relu(self.entry(latents * INPUT_GAIN))
        for one, two in self.inner:
            joined = torch.cat([joined, F.relu(two(F.relu(one(joined))))], 1)
        return self.last(joined).to(self.gain.dtype) * self.gain + self.offset

    def multiplications(self):
        """Multiply-accumulates per position."""
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv2d))


class QuantisedDense(nn.Module):
    """The integer twin of a `DenseNetwork`.

    A joined channel keeps its step in all later layers, so joining changes no number:
    `log_joined` are the steps of all joined channels, `log_hidden` those inside each layer.
    """

    def __init__(self, network, prior):
        super().__init__()
        self.entry = layer(network.entry, HIDDEN, gain=INPUT_GAIN)
        self.inner = nn.ModuleList(
            nn.ModuleList([layer(one, HIDDEN), layer(two, HIDDEN)]) for one, two in network.inner
        )
        self.last = output_layer(network, prior)
        kind, outputs = network.last.weight.dtype, network.last.out_channels
        self.log_joined = nn.Parameter(torch.zeros(network.last.in_channels, dtype=kind))
        self.log_hidden = nn.ParameterList(
            torch.zeros(one.out_channels, dtype=kind) for one, _ in network.inner
        )
        self.register_buffer("input_step", torch.ones(network.entry.in_channels, dtype=kind))
        self.register_buffer("output_step", torch.ones(outputs, dtype=kind))

    def calibrate(self, network, latents):
        """Chooses all steps from what the float network does on the given latents."""
        joined = F.relu(network.entry(latents * INPUT_GAIN))
        steps = calibrated(self.entry, self.input_step, joined)
        for n, ((one, two), (float_one, float_two)) in enumerate(zip(self.inner, network.inner)):
            hidden = F.relu(float_one(joined))
            inside = calibrated(one, steps, hidden)
            self.log_hidden[n].data.copy_(inside.log())
            added = F.relu(float_two(hidden))
            steps = torch.cat([steps, calibrated(two, inside, added)])
            joined = torch.cat([joined, added], 1)
        self.log_joined.data.copy_(steps.log())
        self.last.calibrate(steps, self.output_step)

    def layers(self):
        """Of each layer: its convolutions; steps of their inputs and of what the layer adds."""
        steps, end = self.log_joined.exp(), self.entry.bias.numel()
        for (one, two), log_hidden in zip(self.inner, self.log_hidden):
            begin, end = end, end + two.bias.numel()
            yield one, two, steps[:begin], log_hidden.exp(), steps[begin:end]

    def entry_steps(self):
        return self.log_joined[: self.entry.bias.numel()].exp()

    def forward(self, latents):
        low = QuantisedNetwork.low_precision_backward
        x = latents.clamp(-LATENT_LIMIT, LATENT_LIMIT)
        joined = self.entry(x, self.input_step, self.entry_steps(), True, low)
        for one, two, steps, inside, added in self.layers():
            x = two(one(joined, steps, inside, True, low), inside, added, True, low)
            joined = torch.cat([joined, x], 1)
        return self.last(joined, self.log_joined.exp(), self.output_step, False, low)

    def write(self, writer):
        """Appends the operations and tensors of the integer model."""
        entry_steps = self.entry_steps()
        x = writer.convolution("entry", self.entry, "latents", self.input_step, entry_steps, "u8")
        for n, (one, two, steps, inside, added) in enumerate(self.layers()):
            hidden = writer.convolution(f"d{n}.one", one, x, steps, inside, "u8")
            result = writer.convolution(f"d{n}.two", two, hidden, inside, added, "u8")
            x = writer.append("concat", inputs=[x, result])
        steps = self.log_joined.exp()
        writer.convolution("last", self.last, x, steps, self.output_step, "i16")


network_twin.register(DenseNetwork, QuantisedDense)


def calibrated(convolution, input_steps, activations):
    """Output steps for the float activations; sets the convolution's weight steps for them."""
    output_steps = convolution.coarsened(
        input_steps, activation_step(activations), HIDDEN.spread
    )
    convolution.calibrate(input_steps, output_steps)
    return output_steps
