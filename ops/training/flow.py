"""The float flow: shapes of the models, couplings, priors and their code length.

Latents are whole numbers in pixel units. A network maps latents to numbers in the units of the
integer model: translations in pixels, means in 1/32 pixel, scales as an index into 128 log-spaced
entries. The quantised networks of `quantise.py` have the same interface.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

SCALE_COUNT = 128
SMALLEST_SCALE, LARGEST_SCALE = 0.05, 64.0  # pixels
LOG_SCALE_STEP = math.log(LARGEST_SCALE / SMALLEST_SCALE) / (SCALE_COUNT - 1)
MEAN_UNITS = 32  # per pixel

# A latent outside its window costs 32 bits in the integer coder, one inside it 16 bits at most.
WINDOW_SCALES, SMALLEST_WINDOW, LARGEST_WINDOW = 16.0, 24.0, 512.0
ESCAPE_NATS, FLOOR_NATS, ESCAPE_SHARPNESS = 32 * math.log(2), 16 * math.log(2), 2.0

# Networks see latents in units of 64 pixels and answer in units of 16; both factors are folded into
# the weights of the integer model. A new prior starts with a scale of e^1.5 pixels.
INPUT_GAIN = 1 / 64
OUTPUT_GAIN = 16.0

# The shortcut sees latents in larger units: its weights reach 8, and grow no faster than the others.
SHORTCUT_GAIN = 1 / 256

# Lifting steps of a smooth wavelet, LeGall's 5/3, over the four sub-pixel positions (2·dy + dx of
# the squeeze). Position → what its translation starts as: (position, dy, dx, weight), with dy and dx
# in pixels of the squeezed map. Diagonal, vertical and horizontal details are predicted from their
# neighbours; then the first position becomes a mean.
WAVELET = {
    3: [(2, 0, 0, -1 / 4), (2, 0, 1, -1 / 4), (1, 0, 0, -1 / 4), (1, 1, 0, -1 / 4)],
    2: [(0, 0, 0, -1 / 2), (0, 1, 0, -1 / 2)],
    1: [(0, 0, 0, -1 / 2), (0, 0, 1, -1 / 2)],
    0: [(1, 0, 0, 1 / 4), (1, 0, -1, 1 / 4), (2, 0, 0, 1 / 4), (2, -1, 0, 1 / 4)],
}
FIRST_INDEX = (1.5 - math.log(SMALLEST_SCALE)) / LOG_SCALE_STEP


@dataclass(frozen=True)
class NetworkShape:
    """A residual network: the width of its trunk and the width inside each block.

    With a shortcut, one linear convolution of its input is added to its result.
    """

    channels: int
    hidden: tuple
    shortcut: bool = False

    @classmethod
    def uniform(cls, channels, blocks=1, shortcut=False):
        return cls(channels, (channels,) * blocks, shortcut)

    def network(self, inputs, outputs, gain, offset):
        return ResidualNetwork(inputs, outputs, self, gain, offset)


@dataclass(frozen=True)
class LevelShape:
    """One level: its couplings, and what of its channels is coded in how many groups."""

    coupling: NetworkShape
    prior: NetworkShape
    groups: int
    keep: int = 2  # quarters of the channels that go on to the next level
    steps: int = 4


@dataclass(frozen=True)
class FlowShape:
    """Everything that distinguishes one model from another."""

    name: str
    levels: tuple
    colour: str = "ycocg-r"  # or "none"
    corrects_scales: bool = False  # blocks carry corrections of the scales (Codec.md)
    corrects_means: bool = False  # so they do of the means of large images
    mirrors: bool = False  # the coder mirrors images as is cheapest (Codec.md)
    coupling: str = "lifting"  # or "permuted", or "unpermuted": the first order comes back
    seed: int = 0


def same_levels(coupling, prior, groups, steps=4, keep=2):
    """Levels of equal networks that keep as many quarters of their channels; the last keeps none."""
    keeps = [keep] * (len(groups) - 1) + [0]
    return tuple(LevelShape(coupling, prior, g, k, steps) for g, k in zip(groups, keeps))


def profile(name, coupling, prior, mirrors=False):
    """The shape of a model that ships; channels of the networks in couplings and in priors."""
    networks = [NetworkShape.uniform(channels, shortcut=True) for channels in (coupling, prior)]
    levels = same_levels(*networks, (3, 3, 3, 4), keep=1)
    return FlowShape(name, levels, corrects_scales=True, corrects_means=True, mirrors=mirrors)


UNIFORM = NetworkShape.uniform
SHAPES = {
    shape.name: shape
    for shape in (
        profile("fast", 16, 48),
        profile("default", 16, 80),
        profile("best", 16, 80, mirrors=True),
        FlowShape("tiny-lifting", same_levels(UNIFORM(8), UNIFORM(12), (2, 4))),
        FlowShape(
            "tiny-shortcut",
            same_levels(UNIFORM(8, shortcut=True), UNIFORM(12, shortcut=True), (2, 4)),
        ),
        FlowShape(
            "tiny-permuted", same_levels(UNIFORM(12), UNIFORM(8), (1, 2), steps=3),
            colour="none", coupling="permuted",
        ),
    )
}


@dataclass(frozen=True)
class StepPlan:
    context: list
    target: list


@dataclass(frozen=True)
class LevelPlan:
    """The channels of one level; `order` is applied after the steps, then `keep` + groups follow."""

    channels: int
    steps: list
    order: list
    keep: int
    groups: list


def plan_levels(shape):
    """Index lists of every level, as they stand in the model file."""
    generator = torch.Generator("cpu").manual_seed(shape.seed)
    plans, channels = [], 3
    for level in shape.levels:
        channels *= 4
        quarter = channels // 4
        order, steps = list(range(channels)), []
        for step in range(level.steps):
            if shape.coupling == "lifting":
                position = 3 - step % 4
                target = list(range(position * quarter, (position + 1) * quarter))
                context = [c for c in range(channels) if c not in target]
            else:
                permutation = torch.randperm(channels, generator=generator, device="cpu").tolist()
                order = [order[p] for p in permutation]
                context, target = order[: channels - quarter], order[channels - quarter :]
            steps.append(StepPlan(context, target))
        if shape.coupling == "unpermuted":
            order = list(range(channels))
        keep = level.keep * quarter
        groups = [(channels - keep) // level.groups] * level.groups
        groups[-1] += channels - keep - sum(groups)
        plans.append(LevelPlan(channels, steps, order, keep, groups))
        channels = keep
    return plans


class RoundThrough(torch.autograd.Function):
    """Rounds half up; the gradient passes unchanged."""

    @staticmethod
    def forward(context, x):
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(context, gradient):
        return gradient


class ClampThrough(torch.autograd.Function):
    """Clamps; outside the range only gradients that lead back into it pass."""

    @staticmethod
    def forward(context, x, low, high):
        context.save_for_backward(x)
        context.range = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        low, high = context.range
        stuck = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
        return gradient.masked_fill(stuck, 0), None, None


def index_gain():
    """Index units per unit of log scale."""
    return 1 / LOG_SCALE_STEP


class ResidualNetwork(nn.Module):
    """3×3 convolution, pre-activation residual blocks, ReLU, 3×3 convolution.

    `shortcut` is None or a 3×3 convolution of the latents, added to the result.
    """

    def __init__(self, inputs, outputs, shape, gain, offset):
        super().__init__()
        channels = shape.channels
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.inner = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(channels, hidden, 3, padding=1),
                    nn.Conv2d(hidden, channels, 3, padding=1),
                ]
            )
            for hidden in shape.hidden
        )
        self.last = nn.Conv2d(channels, outputs, 3, padding=1)
        self.shortcut = None
        if shape.shortcut:
            self.shortcut = nn.Conv2d(inputs, outputs, 3, padding=1)
            nn.init.zeros_(self.shortcut.weight)
            nn.init.zeros_(self.shortcut.bias)
        self.register_buffer("gain", gain.view(1, -1, 1, 1))
        self.register_buffer("offset", offset.view(1, -1, 1, 1))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            for _, second in self.inner:
                second.weight.mul_(0.3)

    def forward(self, latents):
        return self.answer(latents, self.features(latents))

    def features(self, latents, context=0.0):
        """What the last convolution sees, [N, channels, H, W]; `context` is added to the trunk."""
        trunk = self.first(latents * INPUT_GAIN) + context
        for one, two in self.inner:
            trunk = trunk + two(F.relu(one(F.relu(trunk))))
        return F.relu(trunk)

    def answer(self, latents, features):
        """The result, in units of the integer model."""
        result = self.last(features).to(self.gain.dtype)
        if self.shortcut is not None:
            with torch.autocast(latents.device.type, enabled=False):
                result = result + self.shortcut(latents * SHORTCUT_GAIN)
        return result * self.gain + self.offset

    def multiplications(self):
        """Multiply-accumulates per position."""
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv2d)]
        return sum(c.weight.numel() for c in convolutions)


class StaticPrior(nn.Module):
    """The same mean and scale of a channel at every position."""

    def __init__(self, channels):
        super().__init__()
        self.parameters_ = nn.Parameter(torch.zeros(2 * channels))
        gain, offset = prior_units(channels)
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def values(self):
        """Means in 1/32 pixel, then scale indices; [2n]."""
        return self.parameters_ * self.gain + self.offset

    def forward(self, batch, height, width):
        return self.values().view(1, -1, 1, 1).expand(batch, -1, height, width)


def coupling_units(channels):
    """Gain and offset of a translation in pixels."""
    return torch.full((channels,), OUTPUT_GAIN), torch.zeros(channels)


def prior_units(channels):
    """Gain and offset of n means in 1/32 pixel and n scale indices."""
    means = torch.full((channels,), OUTPUT_GAIN * MEAN_UNITS)
    indices = torch.full((channels,), index_gain())
    offset = torch.cat([torch.zeros(channels), torch.full((channels,), FIRST_INDEX)])
    return torch.cat([means, indices]), offset


class Level(nn.Module):
    """Couplings and priors of one level."""

    def __init__(self, plan, shape):
        super().__init__()
        self.plan = plan
        self.couplings, self.priors = nn.ModuleList(), nn.ModuleList()
        for n, step in enumerate(plan.steps):
            outputs = len(step.target)
            network = shape.coupling.network(
                len(step.context), outputs, *coupling_units(outputs)
            )
            self.couplings.append(network)
            self.register_buffer(f"context{n}", torch.tensor(step.context), persistent=False)
            self.register_buffer(f"target{n}", torch.tensor(step.target), persistent=False)
        known = plan.keep
        for group in plan.groups:
            if known == 0:
                self.priors.append(StaticPrior(group))
            else:
                network = shape.prior.network(known, 2 * group, *prior_units(group))
                self.priors.append(network)
            known += group
        identity = plan.order == list(range(plan.channels))
        self.register_buffer(
            "order", None if identity else torch.tensor(plan.order), persistent=False
        )

    @torch.no_grad()
    def become_wavelet(self):
        """Lets the shortcuts of lifting couplings start as `WAVELET`."""
        quarter = self.plan.channels // 4
        for step, network in zip(self.plan.steps, self.couplings):
            for row, channel in enumerate(step.target):
                for position, dy, dx, weight in WAVELET[channel // quarter]:
                    column = step.context.index(position * quarter + channel % quarter)
                    network.shortcut.weight[row, column, 1 + dy, 1 + dx] = weight / (
                        SHORTCUT_GAIN * OUTPUT_GAIN
                    )

    def couple(self, z):
        """Latents after the steps and the final order."""
        for n, network in enumerate(self.couplings):
            context, target = getattr(self, f"context{n}"), getattr(self, f"target{n}")
            translation = RoundThrough.apply(network(z.index_select(1, context)))
            z = z.index_add(1, target, translation)
        return z if self.order is None else z.index_select(1, self.order)

    def uncouple(self, z):
        """The inverse of `couple`."""
        if self.order is not None:
            z = z.index_select(1, torch.argsort(self.order))
        for n in reversed(range(len(self.couplings))):
            context, target = getattr(self, f"context{n}"), getattr(self, f"target{n}")
            translation = RoundThrough.apply(self.couplings[n](z.index_select(1, context)))
            z = z.index_add(1, target, -translation)
        return z

    def prior(self, group, known):
        """Means and scale indices [N, 2n, H, W] of a group from the channels before it."""
        network = self.priors[group]
        if isinstance(network, StaticPrior):
            return network(known.shape[0], *known.shape[2:])
        return network(known)


def to_latents(images, colour):
    """Pixels [N, 3, H, W] in 0…255 to centred latents; reversible."""
    x = images.to(torch.get_default_dtype()) if not images.is_floating_point() else images
    if colour == "none":
        return x - 128
    red, green, blue = x.unbind(1)
    orange = red - blue
    middle = blue + torch.floor(orange / 2)
    green_difference = green - middle
    luma = middle + torch.floor(green_difference / 2)
    return torch.stack([luma - 128, orange, green_difference], 1)


def to_pixels(latents, colour):
    """The inverse of `to_latents`."""
    if colour == "none":
        return latents + 128
    luma, orange, green_difference = latents.unbind(1)
    middle = luma + 128 - torch.floor(green_difference / 2)
    blue = middle - torch.floor(orange / 2)
    return torch.stack([blue + orange, green_difference + middle, blue], 1)


def squeeze(z):
    """[N, C, H, W] → [N, 4C, H/2, W/2], channel (dy·2 + dx)·C + c."""
    n, c, h, w = z.shape
    z = z.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return z.reshape(n, 4 * c, h // 2, w // 2)


def unsqueeze(z):
    """The inverse of `squeeze`."""
    n, c, h, w = z.shape
    z = z.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
    return z.reshape(n, c // 4, 2 * h, 2 * w)


def code_length(values, parameters):
    """Nats of each image under discretised logistics, [N]."""
    return latent_nats(values, parameters).sum((1, 2, 3))


def latent_nats(values, parameters):
    """Nats of each latent under its discretised logistic, [N, C, H, W].

    The integer coder floors every probability inside a latent's window and codes what lies outside
    it by an escape. The step in the cost is smoothed so that a gradient leads away from it;
    elsewhere the logistic's own gradient is kept.
    """
    means, indices = parameters.chunk(2, 1)
    indices = ClampThrough.apply(indices, 0.0, SCALE_COUNT - 1.0)
    inverse = torch.exp(-(indices * LOG_SCALE_STEP + math.log(SMALLEST_SCALE)))
    distance = (values - means / MEAN_UNITS).abs()
    # P = σ(−lower) − σ(−upper) on the tail's side, where both terms are small.
    upper, lower = (distance - 0.5) * inverse, (distance + 0.5) * inverse
    nearer, farther = F.logsigmoid(-upper), F.logsigmoid(-lower)
    nats = -nearer - torch.log(-torch.expm1((farther - nearer).clamp(max=-1e-6)))
    floored = -torch.logaddexp(-nats.detach(), torch.full_like(nats, -FLOOR_NATS))
    window = (SMALLEST_WINDOW * inverse).clamp(min=WINDOW_SCALES)  # in scales
    escaped = torch.sigmoid(ESCAPE_SHARPNESS * (upper - window))
    return nats + (floored - nats.detach()) + escaped * (ESCAPE_NATS - floored)


class Flow(nn.Module):
    """A flow of any shape; `levels[l].couplings` and `.priors` may be float or quantised."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        torch.manual_seed(shape.seed)
        self.levels = nn.ModuleList(map(Level, plan_levels(shape), shape.levels))
        for level, level_shape in zip(self.levels, shape.levels):
            network = level_shape.coupling
            if shape.coupling == "lifting" and getattr(network, "shortcut", False):
                level.become_wavelet()

    def passes(self, images):
        """(values, parameters) of each group, finest level first; sides divisible by 2^L."""
        z = to_latents(images, self.shape.colour)
        for level in self.levels:
            z = level.couple(squeeze(z))
            known, begin = z[:, : level.plan.keep], level.plan.keep
            for n, size in enumerate(level.plan.groups):
                yield z[:, begin : begin + size], level.prior(n, z[:, :begin])
                begin += size
            z = known

    def forward(self, images):
        """Bits of each image, [N]."""
        return sum(code_length(v, p) for v, p in self.passes(images)) / math.log(2)

    def networks(self):
        """(path, network) of every coupling and prior that is a network."""
        for l, level in enumerate(self.levels):
            for n, network in enumerate(level.couplings):
                yield f"level{l}.step{n}", network
            for n, network in enumerate(level.priors):
                if not isinstance(network, StaticPrior):
                    yield f"level{l}.prior{n}", network

    def multiplications_per_byte(self):
        """Multiply-accumulates of coding divided by the bytes of the image."""
        return sum(
            network.multiplications() / 4 ** (int(path[5]) + 1) / 3
            for path, network in self.networks()
        )
