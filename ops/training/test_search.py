"""Tests of the optimiser and of the comparison of architectures."""

from dataclasses import replace

import pytest
import torch

from flow import SHAPES, Flow, plan_levels
from muon import Muon, muon_and_adam, orthogonal
from search import VARIANTS, table
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
    for variant, (_, change) in VARIANTS.items():
        cost = kilo_multiplications(Flow(replace(SHAPES["fast"], **change)))
        assert abs(cost - 18.5) < 1.5, variant


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
