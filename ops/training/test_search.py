"""Tests of the optimiser and of the comparison of architectures."""

from dataclasses import replace

import pytest
import torch

from flow import SHAPES, Flow, ResidualNetwork, plan_levels
from muon import Muon, muon_and_adam, orthogonal
from search import VARIANTS, flow_of, table
from trainer import kilo_multiplications


@pytest.mark.parametrize("shape", [(3, 8, 40), (2, 40, 8)])
def test_updates_are_nearly_orthogonal(shape):
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape) * 1e-3))
    assert 0.3 < values.min() and values.max() < 1.3


def test_muon_goes_downhill_whatever_the_size_of_the_gradient():
    for size in (1e-6, 1e6):
        kernel = torch.nn.Parameter(torch.ones(4, 2, 3, 3))
        optimiser = Muon([kernel], lr=0.2)
        for _ in range(40):
            kernel.grad = None
            (size * kernel.square().sum()).backward()
            optimiser.step()
        assert kernel.abs().max() < 0.5


def test_kernels_go_to_muon_and_the_rest_to_adam():
    kernel, bias = (torch.nn.Parameter(torch.zeros(*s)) for s in ((4, 4, 3, 3), (4,)))
    groups = [{"params": [kernel]}, {"params": [bias], "rate": 2.0}]
    muon, adam = muon_and_adam(groups, [kernel], rate=1e-3, fused=False).param_groups
    assert muon["params"] == [kernel] and muon["scale"] == 10 and "momentum" in muon
    assert adam["params"] == [bias] and adam["rate"] == 2 and "betas" in adam


def test_variants_cost_about_the_same():
    for variant in VARIANTS:
        cost = kilo_multiplications(flow_of(variant))
        assert abs(cost - 18.5) < 1.5, variant


def test_features_of_the_coarser_level_change_the_priors_of_the_finer_one():
    flow, images = flow_of("cross-level"), torch.randint(0, 256, (2, 3, 32, 32))
    plain = Flow(SHAPES["fast"])
    plain.load_state_dict(flow.state_dict(), strict=False)
    assert torch.allclose(flow(images), plain(images))
    for network in flow.levels[0].priors:
        torch.nn.init.normal_(network.last.weight, std=0.1)
    before = [parameters for _, parameters in flow.passes(images)]
    torch.nn.init.normal_(flow.raised[0].weight, std=0.1)
    after = [parameters for _, parameters in flow.passes(images)]
    changed = [not torch.equal(*pair) for pair in zip(before, after)]
    assert changed == [False] * (len(changed) - 3) + [True] * 3


def test_a_mixture_of_one_logistic_is_that_logistic():
    flow, images = flow_of("mixture"), torch.randint(0, 256, (2, 3, 32, 32))
    plain = Flow(SHAPES["fast"])
    before = flow(images)
    for level in flow.levels:
        for network in level.priors:
            if isinstance(network, ResidualNetwork):
                network.offset[:, -network.offset.shape[1] // 5 :] = 40
    after = flow(images)
    assert torch.allclose(after, plain(images)) and not torch.allclose(before, after)


def test_unpermuted_couplings_bring_the_order_back():
    plan = plan_levels(replace(SHAPES["fast"], coupling="unpermuted"))[0]
    assert plan.order == list(range(12))
    assert plan.steps[0].target != [9, 10, 11]


def test_the_table_compares_with_the_base():
    rows = {
        name: {"kiloMultiplicationsPerByte": 21.4, "bitsPerDimension": {"photos64": bits}}
        for name, bits in (("base", 4.0), ("rgb", 4.2))
    }
    assert "| 4.000 |" in table(rows)
    assert "4.200 (+5.0 %)" in table(rows)
