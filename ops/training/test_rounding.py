"""Tests of rounding weights together."""

import pytest
import torch

from flow import SHAPES
from quantise import QuantisedNetwork
from rounding import best_rounding, elimination, round_weights, rounded_together
from vectors import random_flow

SEED = 3

torch.set_num_threads(1)


def problem(offset):
    """Weights [O, n] in steps, and inputs [n + 1, positions] that lie around `offset`."""
    generator = torch.Generator().manual_seed(SEED)
    weights = 40 * torch.randn(6, 18, generator=generator).double()
    inputs = offset + torch.randn(18, 500, generator=generator).double()
    return weights, torch.cat([inputs, torch.ones(1, 500)])


def squared_error(found, weights, inputs):
    """Of the sums, for each output."""
    return ((found @ inputs - weights @ inputs[:-1]) ** 2).sum(1)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_weights_rounded_together_err_less_than_rounded_alone(offset):
    weights, inputs = problem(offset)
    order, factor = elimination(inputs @ inputs.T)
    real = torch.nn.functional.pad(weights, (0, 1))
    found = rounded_together(real[:, order], factor)[:, order.argsort()]
    assert torch.equal(found[:, :-1], found[:, :-1].round())
    together = squared_error(found, weights, inputs)
    alone = squared_error(real.round(), weights, inputs)
    assert (together < alone).all() if offset else together.sum() < alone.sum()


def test_a_larger_step_is_taken_where_it_errs_less():
    """Without a bias to make it good, the sum of four weights of 2.25 is a whole number, of 2.3 not."""
    inputs = torch.cat([50 * torch.ones(4, 100), torch.zeros(1, 100)]).double()
    weights = torch.full((1, 4), 2.3).double()
    factors, whole, _ = best_rounding(weights, inputs @ inputs.T)
    assert factors[0] > 1
    found = factors[0] * whole.sum() * 50
    assert abs(found - weights.sum() * 50) < abs(9 - weights.sum()) * 50


@pytest.mark.parametrize("name", ["tiny-lifting", "tiny-shortcut"])
def test_a_network_of_weights_rounded_together_errs_less(name):
    network = random_flow(SHAPES[name], SEED).levels[0].couplings[0]
    generator = torch.Generator().manual_seed(SEED)
    latents = (100 + 10 * torch.randn(8, 9, 16, 16, generator=generator)).round().double()
    twin = QuantisedNetwork(network, prior=False).double()
    with torch.no_grad():
        expected = network(latents)
        twin.calibrate(network, latents)
        alone = (twin(latents) - expected).square().mean()
        round_weights(twin, latents)
        assert (twin(latents) - expected).square().mean() < alone
