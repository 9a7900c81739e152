"""Tests of pruning: gates, what they cost, and that removal changes nothing."""

import numpy as np
import pytest
import torch

from data import CropSampler
from flow import SHAPES, Flow, FlowShape, NetworkShape, same_levels
from prune import (
    FIRST_PRICE, BinaryGate, PruningTrainer, cost_with, flow_like, gated, gated_blocks, pruned,
    rounded_widths, widths_for,
)
from quantise import quantised
from trainer import Schedule, kilo_multiplications
from vectors import images, random_flow

SEED = 7
GROUP = 4
BUDGET = 480  # crops
NETWORK = NetworkShape.uniform(8, blocks=3)
SHAPE = FlowShape("three-blocks", same_levels(NETWORK, NETWORK, (2, 2), steps=2))

torch.set_num_threads(1)


@pytest.fixture
def flow():
    """A gated flow of random weights in float64, all gates open."""
    return gated(random_flow(SHAPE, SEED))


def set_widths(flow, widths, seed=SEED):
    """Opens as many gates of each block as given, at random places; shuts the others."""
    generator = torch.Generator().manual_seed(seed)
    for block, width in zip(gated_blocks(flow), widths, strict=True):
        order = torch.randperm(block.width, generator=generator)
        block.two.gate.data.fill_(0.2)[order[:width]] = 0.8


def random_widths(flow):
    generator = np.random.default_rng(SEED)
    return (GROUP * generator.integers(0, 3, len(gated_blocks(flow)))).tolist()


def test_a_gate_is_binary_and_its_gradient_passes_between_zero_and_one():
    gate = torch.tensor([-0.1, 0.0, 0.5, 0.6, 1.0, 1.1], requires_grad=True)
    opened = BinaryGate.apply(gate)
    assert opened.tolist() == [0, 0, 0, 1, 1, 1]
    (opened * torch.arange(1.0, 7)).sum().backward()
    assert gate.grad.tolist() == [0, 2, 3, 4, 5, 0]


def test_open_gates_change_nothing_and_shut_ones_still_learn(flow):
    block = torch.from_numpy(images(2, 16, 16, SEED)).double()
    with torch.no_grad():
        assert torch.equal(flow(block), random_flow(SHAPE, SEED)(block))
    set_widths(flow, [GROUP] * len(gated_blocks(flow)))
    flow(block).sum().backward()
    for gate in (b.two.gate for b in gated_blocks(flow)):
        assert (gate.grad != 0).float().mean() > 0.5


def test_removed_channels_are_those_that_were_masked(flow):
    widths = random_widths(flow)
    assert {0, GROUP, 8} == set(widths)  # dropped blocks among them
    set_widths(flow, widths)
    small = pruned(flow, 1.0, GROUP)
    block = torch.from_numpy(images(3, 16, 16, SEED)).double()
    with torch.no_grad():
        for (values, parameters), (expected, expected_parameters) in zip(
            small.passes(block), flow.passes(block), strict=True
        ):
            assert torch.equal(values, expected)
            torch.testing.assert_close(parameters, expected_parameters, rtol=1e-12, atol=1e-9)
    found = [[len(one.bias) for one, _ in network.inner] for _, network in small.networks()]
    split = [widths[n : n + 3] for n in range(0, len(widths), 3)]
    assert found == [[w for w in three if w] for three in split]


def test_the_cost_is_that_of_the_flow_once_pruned(flow):
    set_widths(flow, random_widths(flow))
    blocks = gated_blocks(flow)
    cost = cost_with(flow, blocks, rounded_widths(blocks, GROUP))
    assert cost == pytest.approx(kilo_multiplications(pruned(flow, 1.0, GROUP)))
    assert cost == pytest.approx(pruned(flow, 1.0, GROUP).multiplications_per_byte() / 1e3)


def test_widths_are_whole_groups_and_only_shut_blocks_vanish(flow):
    blocks = gated_blocks(flow)
    set_widths(flow, [0, 1, 2, 5, 6, 8] + [8] * (len(blocks) - 6))
    assert rounded_widths(blocks, GROUP)[:6] == [0, 4, 4, 4, 8, 8]
    assert rounded_widths(blocks, 16)[:6] == [0, 8, 8, 8, 8, 8]


def test_the_strongest_channels_remain(flow):
    block = gated_blocks(flow)[0]
    block.two.gate.data.copy_(torch.tensor([0.6, 0.9, 1.0, 0.0, 1.0, 1.0, 0.1, 1.0]))
    assert block.strongest(4) == [2, 4, 5, 7]
    block.one.weight.data[3] *= 0  # of two equal gates the one with the smaller weights goes
    block.two.gate.data.fill_(1.0)
    assert 3 not in block.strongest(7)


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_the_share_is_reached_whatever_the_gates_say(flow, share):
    kept = kilo_multiplications(pruned(flow, share, GROUP)) / kilo_multiplications(flow)
    assert share - 0.05 < kept <= share


def test_a_share_below_what_lies_outside_the_blocks_is_refused(flow):
    with pytest.raises(ValueError, match="what is not in blocks takes 0"):
        widths_for(flow, 0.05, GROUP)


def test_flows_of_any_widths_are_rebuilt_from_their_state(flow):
    set_widths(flow, random_widths(flow))
    small = pruned(flow, 1.0, GROUP)
    block = torch.from_numpy(images(4, 16, 16, SEED)).double()
    again = flow_like(SHAPE, small.state_dict()).double()
    again.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(again(block), small(block))
    state = quantised(small, block).state_dict()
    assert {k: v.shape for k, v in flow_like(SHAPE, state).state_dict().items()} == {
        k: v.shape for k, v in small.state_dict().items()
    }


def pruning_trainer(folder, share=0.7):
    flow = Flow(SHAPES["tiny-lifting"])
    photographs = [images(1, 24, 24, seed=n)[0].transpose(1, 2, 0) for n in range(2)]
    schedule = Schedule(1, 1e-3, small_crop=8, large_crop=8, small_batch=4, image_budget=BUDGET)
    sampler = CropSampler(photographs, 8, {1: 1.0})
    return PruningTrainer(gated(flow), share, GROUP, schedule, sampler, {}, folder)


def test_a_gate_pays_the_price_of_its_channel(tmp_path):
    trainer = pruning_trainer(tmp_path)
    trainer.penalty().backward()
    for block in trainer.blocks:
        expected = torch.full_like(block.two.gate, FIRST_PRICE * block.cost / trainer.whole)
        torch.testing.assert_close(block.two.gate.grad, expected)


def test_gates_shut_until_the_share_is_reached(tmp_path):
    pruning = pruning_trainer(tmp_path)
    pruning.run()
    assert pruning.cost() <= 0.7 * pruning.whole
    assert pruning.images < BUDGET  # it ends there, not with its budget
    assert all(((g >= 0) & (g <= 1)).all() for g in pruning.gates)
    again = pruning_trainer(tmp_path)
    assert again.resume() and again.finished()
    small = again.with_average(lambda: pruned(again.flow, 0.7, GROUP))
    assert kilo_multiplications(small) == pytest.approx(pruning.cost())
