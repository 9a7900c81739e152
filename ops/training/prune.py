"""Structured pruning of residual blocks: binary gates on the channels inside them, and removal.

IODF, Algorithm 1, stages 2 and 3. A gate g multiplies one hidden channel by 1 where g > 0.5 and by
0 elsewhere; its gradient passes straight through inside 0 ≤ g ≤ 1. λ·‖g‖₁, weighted by each
channel's share of the flow's multiplications, shuts the channels that save fewest bits for their
cost. λ rises until what remains costs the wanted share.

Whole groups of channels go: kernels work on 16 channels at a time. Of a block with some open
channels at least one group stays; a block whose gates are all shut is dropped, its bias folded into
the layer before it.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from flow import Flow, ResidualNetwork
from trainer import Trainer, kilo_multiplications

CHANNEL_GROUP = 16
FIRST_GATE, OPEN_GATE = 0.9, 0.5
GATE_RATE = 1e-2  # constant, since the stage ends when the price is high enough

# λ in bits per dimension, were it paid for all multiplications of the flow; from the first to the
# last step it rises exponentially.
FIRST_PRICE, LAST_PRICE = 0.02, 20.0


class BinaryGate(torch.autograd.Function):
    """1 where g > 0.5, else 0; the gradient passes where 0 ≤ g ≤ 1."""

    @staticmethod
    def forward(context, gate):
        context.save_for_backward(gate)
        return (gate > OPEN_GATE).to(gate.dtype)

    @staticmethod
    def backward(context, gradient):
        (gate,) = context.saved_tensors
        return gradient * ((gate >= 0) & (gate <= 1))


class GatedConvolution(nn.Conv2d):
    """The second convolution of a block, with a gate before each of its inputs."""

    def __init__(self, convolution):
        outputs, inputs, side, _ = convolution.weight.shape
        super().__init__(inputs, outputs, side, padding=side // 2)
        self.weight, self.bias = convolution.weight, convolution.bias
        self.gate = nn.Parameter(torch.full_like(self.weight[0, :, 0, 0], FIRST_GATE))

    def forward(self, x):
        return super().forward(x * BinaryGate.apply(self.gate).to(x.dtype).view(1, -1, 1, 1))


@dataclass(frozen=True)
class Block:
    """The two convolutions of a residual block and what each channel between them costs."""

    one: nn.Conv2d
    two: GatedConvolution
    cost: float  # kMAC/byte

    @property
    def width(self):
        return self.one.out_channels

    def strengths(self):
        """(gate, product of the norms of its weights) of each channel, to rank them by."""
        norms = self.one.weight.flatten(1).norm(dim=1)
        norms = norms * self.two.weight.transpose(0, 1).flatten(1).norm(dim=1)
        return list(zip(self.two.gate.tolist(), norms.tolist()))

    def strongest(self, count):
        """The indices of the strongest channels, ascending."""
        strengths = self.strengths()
        ranked = sorted(range(self.width), key=strengths.__getitem__, reverse=True)
        return sorted(ranked[:count])


def gated(flow):
    """A copy of a float flow with open gates inside all residual blocks."""
    result = copy.deepcopy(flow)
    for _, network in residual_networks(result):
        for pair in network.inner:
            pair[1] = GatedConvolution(pair[1])
    return result


def residual_networks(flow):
    """(path, network) of the networks that have residual blocks; others are not pruned."""
    return [(p, n) for p, n in flow.networks() if isinstance(n, ResidualNetwork)]


def gated_blocks(flow):
    """The `Block`s of a gated flow, in the order of its networks."""
    result = []
    for path, network in residual_networks(flow):
        level = int(path.removeprefix("level").split(".")[0])
        for one, two in network.inner:
            weights = one.weight[0].numel() + two.weight[:, 0].numel()
            result.append(Block(one, two, weights / 4 ** (level + 1) / 3 / 1e3))
    return result


def rounded_widths(blocks, group):
    """For each block, the count of open channels as whole groups: at least one if any is open."""
    counts = torch.stack([(b.two.gate > OPEN_GATE).sum() for b in blocks]).tolist()
    return [
        min(block.width, max(group, (count + group // 2) // group * group)) if count else 0
        for block, count in zip(blocks, counts)
    ]


def cost_with(flow, blocks, widths):
    """kMAC/byte of a gated flow whose blocks have these widths."""
    saved = sum((block.width - width) * block.cost for block, width in zip(blocks, widths))
    return kilo_multiplications(flow) - saved


def widths_for(flow, share, group):
    """Widths of all blocks for at most this share of the multiplications.

    Starts from the gates; where they leave too much, the weakest groups go as well. Raises
    ValueError if the networks cost more than the share even without blocks.
    """
    blocks = gated_blocks(flow)
    limit = share * kilo_multiplications(flow)
    least = cost_with(flow, blocks, [0] * len(blocks))
    if least > limit:
        least_share = least / kilo_multiplications(flow)
        raise ValueError(f"what is not in blocks takes {least_share:.2f} of the multiplications")
    widths = rounded_widths(blocks, group)
    ranked = [sorted(block.strengths(), reverse=True) for block in blocks]

    def smaller(n):
        return (widths[n] - 1) // group * group

    def weakest_group(n):
        gates, norms = zip(*ranked[n][smaller(n) : widths[n]])
        return sum(gates) / len(gates), sum(norms) / len(norms)

    while cost_with(flow, blocks, widths) > limit:
        n = min((n for n, width in enumerate(widths) if width), key=weakest_group)
        widths[n] = smaller(n)
    return widths


@torch.no_grad()
def pruned(flow, share, group=CHANNEL_GROUP):
    """A float flow of the strongest channels of a gated one; gates and all others are gone."""
    widths = iter(zip(gated_blocks(flow), widths_for(flow, share, group)))
    result = copy.deepcopy(flow)
    for _, network in residual_networks(result):
        kept, before = [], network.first
        for one, two in network.inner:
            block, width = next(widths)
            if width:
                channels = block.strongest(width)
                before = convolution(two.weight[:, channels], two.bias)
                kept.append((convolution(one.weight[channels], one.bias[channels]), before))
            else:
                before.bias += two.bias
        network.inner = nn.ModuleList(map(nn.ModuleList, kept))
    return result


def convolution(weight, bias):
    """A convolution of the given weights [O, I, k, k] and bias [O], with zero padding."""
    outputs, inputs, side, _ = weight.shape
    result = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    result.weight = nn.Parameter(weight.detach().clone())
    result.bias = nn.Parameter(bias.detach().clone())
    return result


def flow_like(shape, state):
    """A float flow of a shape, with the blocks that a state dict has, float or quantised.

    Its parameters are not those of the state dict.
    """
    result = Flow(shape)
    for name, network in result.named_modules():
        if not isinstance(network, ResidualNetwork):
            continue
        pairs, channels = [], network.first.out_channels
        while (key := f"{name}.inner.{len(pairs)}.0.weight") in state:
            width = len(state[key])
            pairs.append(
                [
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.Conv2d(width, channels, 3, padding=1),
                ]
            )
        network.inner = nn.ModuleList(map(nn.ModuleList, pairs))
    return result


class PruningTrainer(Trainer):
    """Trains a gated flow until it costs the wanted share of the multiplications."""

    def __init__(self, flow, share, group, *arguments, **options):
        self.share, self.group, self.blocks = share, group, gated_blocks(flow)
        self.gates = [block.two.gate for block in self.blocks]
        self.whole = kilo_multiplications(flow)
        widths_for(flow, share, group)  # raises if the share is out of reach
        super().__init__(flow, *arguments, **options)

    def parameter_groups(self):
        gates = set(self.gates)
        weights = [p for p in self.parameters if p not in gates]
        return [{"params": weights}, {"params": self.gates, "rate": GATE_RATE}]

    def price(self):
        return FIRST_PRICE * (LAST_PRICE / FIRST_PRICE) ** self.progress()

    def penalty(self):
        weighted = [b.cost / self.whole * b.two.gate.abs().sum() for b in self.blocks]
        return self.price() * sum(weighted)

    def update(self):
        """As for any flow; gates stay in 0…1, where they have gradients, and are not averaged."""
        super().update()
        averages = {p: a for p, a in zip(self.parameters, self.average)}
        with torch.no_grad():
            for gate in self.gates:
                averages[gate].copy_(gate.clamp_(0, 1))

    def cost(self):
        """Thousands of multiply-accumulates per byte once the shut channels are removed."""
        return cost_with(self.flow, self.blocks, rounded_widths(self.blocks, self.group))

    def finished(self):
        return super().finished() or self.cost() <= self.share * self.whole
