"""Tests of the paper's architectures and of dense and pruned networks."""

from functools import cache

import numpy as np
import pytest
import torch

import paper
from dense import DenseNetwork, DenseShape
from export import export, integer_model
from flow import Flow, NetworkShape, StaticPrior, coupling_units
from integer import IntegerModel
from paper import RECIPES, SHAPES, paper_shape
from quantise import quantised
from vectors import TINY_DENSE, images, random_flow, vectors

SEED = 7
TINY = (
    TINY_DENSE,
    paper_shape("tiny-residual", [NetworkShape.uniform(6, blocks=2)] * 2, steps=2),
    paper_shape("tiny-pruned", [NetworkShape(6, (3, 10)), NetworkShape(8, (5,))], steps=2),
)

# Kilo multiplications per pixel and millions of parameters of the published networks.
PUBLISHED = {
    "paper-idf-res-32": (6987, 62.25),
    "paper-idf-res-64": (7102, 84.48),
    "paper-idf-dense-32": (6282, 58.46),
    "paper-idf-dense-64": (6412, 84.33),
}

torch.set_num_threads(1)


@cache
def whole_flow(shape):
    """The flow of a shape without memory for its parameters."""
    with torch.device("meta"):
        return Flow(shape)


def kilo_per_pixel(flow):
    return flow.multiplications_per_byte() * 3 / 1e3


@pytest.fixture(scope="module", params=TINY, ids=lambda shape: shape.name)
def flows(request):
    """(float flow, quantised flow) of random weights."""
    flow = random_flow(request.param, SEED)
    return flow, quantised(flow, torch.from_numpy(images(6, 16, 16, seed=SEED)).double())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_met(name):
    flow, (kilo, millions) = whole_flow(SHAPES[name]), PUBLISHED[name]
    assert kilo_per_pixel(flow) == pytest.approx(kilo, rel=0.001)
    assert sum(p.numel() for p in flow.parameters()) / 1e6 == pytest.approx(millions, rel=0.001)


@pytest.mark.parametrize("name", SHAPES)
def test_paper_flows_have_their_channels(name):
    flow = whole_flow(SHAPES[name])
    assert [level.plan.channels for level in flow.levels] == [12, 24, 48, 96][: len(flow.levels)]
    for level in flow.levels:
        quarter = level.plan.channels // 4
        assert len(level.plan.steps) == 8
        assert all(len(step.target) == quarter for step in level.plan.steps)
        assert all(len(step.context) == 3 * quarter for step in level.plan.steps)
        assert len(level.priors) == 1
    assert isinstance(flow.levels[-1].priors[0], StaticPrior)


@pytest.mark.parametrize("name", [n for n in RECIPES if RECIPES[n].keep_multiplications < 1])
def test_pruned_graphs_keep_the_share_of_their_recipe(name):
    recipe = RECIPES[name]
    kept = kilo_per_pixel(whole_flow(recipe.finish)) / kilo_per_pixel(whole_flow(recipe.start))
    assert kept == pytest.approx(recipe.keep_multiplications, abs=0.01)
    widths = {w for level in recipe.finish.levels for w in level.coupling.hidden}
    assert all(w % 16 == 0 for w in widths)


def test_recipes_are_the_rows_of_both_resolutions():
    rows = ("idf-dense", "idf-res", "idf-res-8bit", "pruned", "iodf")
    assert sorted(RECIPES) == sorted(f"paper-{row}-{side}" for row in rows for side in (32, 64))
    assert {r.finish.name for r in RECIPES.values()} == set(SHAPES)


def test_dense_layers_grow_as_published():
    assert paper.DENSE.growths() == [42] * 4 + [43] * 8
    network = DenseNetwork(9, 3, DenseShape(3, 14), *coupling_units(3))
    shapes = [tuple(c.weight.shape) for layer in network.inner for c in layer]
    assert shapes == [
        (9, 9, 1, 1), (4, 9, 3, 3), (13, 13, 1, 1), (5, 13, 3, 3), (18, 18, 1, 1), (5, 18, 3, 3),
    ]
    assert network.last.weight.shape == (3, 23, 3, 3)


def test_the_dense_entry_starts_without_loss():
    network = DenseNetwork(2, 2, DenseShape(1, 1), *coupling_units(2))
    pixels = torch.arange(-128.0, 128.0).view(1, 1, 16, 16).expand(1, 2, 16, 16)
    activations = torch.relu(network.entry(pixels / 64))
    assert torch.allclose(activations * 64 - 128, pixels)


def test_quantised_paper_flows_equal_the_exported_integers(flows, tmp_path):
    _, twin = flows
    path = tmp_path / "model.safetensors"
    export(integer_model(twin), path, "tiny", {})
    block = images(3, 12, 16, seed=SEED + 1)
    with torch.no_grad():
        found = list(twin.passes(torch.from_numpy(block).double()))
    # One group a level: decode order is the reverse.
    expected = IntegerModel.load(path).forward(block)
    for (values, parameters), integers in zip(reversed(found), expected, strict=True):
        means, scales = parameters.chunk(2, 1)
        for mine, integer in zip((values, means, scales.clamp(0, 127)), integers):
            assert np.array_equal(mine.permute(0, 2, 3, 1).numpy(), integer)


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 9)])
def test_paper_flows_are_inverted(flows, size):
    vectors(integer_model(flows[1]), images(*size, seed=SEED))  # raises unless restored


def test_gradients_reach_every_parameter(flows):
    _, twin = flows
    loss = twin(torch.from_numpy(images(3, 16, 16, seed=SEED)).double()).sum()
    gradients = torch.autograd.grad(loss, list(twin.parameters()))
    for (name, _), gradient in zip(twin.named_parameters(), gradients):
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("shape", TINY, ids=lambda shape: shape.name)
def test_the_loss_falls_in_both_stages(shape):
    block = torch.from_numpy(images(1, 16, 16, seed=SEED))  # a smooth one
    flow = Flow(shape)
    first, last = train(flow, block, rate=3e-3, steps=12)
    assert last < first - 0.1
    calibrated, tuned = train(quantised(flow, block), block, rate=1e-3, steps=8)
    assert tuned < calibrated - 0.01


def train(flow, block, rate, steps):
    """Bits per dimension before and after some steps."""
    optimiser = torch.optim.Adam(flow.parameters(), lr=rate)
    found = []
    for _ in range(steps):
        loss = flow(block).sum() / block.numel()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimiser.step()
        found.append(loss.item())
    return found[0], found[-1]
