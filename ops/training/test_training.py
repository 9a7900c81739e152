"""Tests of the training code: `python -m pytest ops/training`."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data import CropSampler, box_reduce
from export import export, integer_model, validate
from flow import (
    OUTPUT_GAIN, SHAPES, Flow, code_length, squeeze, to_latents, to_pixels, unsqueeze,
)
from integer import ESCAPE_START, IntegerModel, LogisticCDF, cdf_tables, rans_encode
from quantise import QuantisedConvolution, QuantisedNetwork, quantised
from trainer import SKIPPED_LIMIT, Schedule, Trainer
from vectors import images, random_flow, vectors

TINY = ("tiny-lifting", "tiny-permuted", "tiny-shortcut")
SEED = 5

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=TINY)
def flows(request):
    """(float flow, quantised flow, integer model) of random weights."""
    flow = random_flow(SHAPES[request.param], SEED)
    twin = quantised(flow, torch.from_numpy(images(6, 16, 16, seed=SEED)).double())
    return flow, twin, integer_model(twin)


def test_colour_and_squeeze_are_reversible():
    block = torch.from_numpy(images(3, 8, 12, SEED))
    for colour in ("ycocg-r", "none"):
        latents = to_latents(block, colour)
        assert torch.equal(to_pixels(unsqueeze(squeeze(latents)), colour), block.float())


def test_squeeze_orders_channels_by_position_then_colour():
    z = torch.arange(3 * 2 * 2).view(1, 3, 2, 2)
    assert squeeze(z).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_couplings_are_inverted_exactly(flows):
    flow, _, _ = flows
    z = torch.randint(-200, 200, (2, flow.levels[0].plan.channels, 4, 4)).double()
    with torch.no_grad():
        assert torch.equal(flow.levels[0].uncouple(flow.levels[0].couple(z)), z)


def test_fake_quantised_latents_and_priors_equal_the_integer_model(flows):
    _, twin, model = flows
    block = images(3, 16, 16, seed=SEED + 1)
    with torch.no_grad():
        found = list(twin.passes(torch.from_numpy(block).double()))
    ordered, begin = [], 0
    for level in twin.levels:
        ordered.insert(0, found[begin : begin + len(level.plan.groups)])
        begin += len(level.plan.groups)
    flat = [group for groups in ordered for group in groups]
    for (values, parameters), expected in zip(flat, model.forward(block), strict=True):
        means, scales = parameters.chunk(2, 1)
        for mine, integer in zip((values, means, scales.clamp(0, 127)), expected):
            assert np.array_equal(mine.permute(0, 2, 3, 1).numpy(), integer)


def relative_error_of_calibration(change):
    """Of a calibrated network after `change`, its translations scaled to 30 pixels."""
    network = random_flow(SHAPES["tiny-lifting"], SEED).levels[0].couplings[0]
    latents = 20 * torch.randn(8, 9, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    latents = latents.round()
    with torch.no_grad():
        for one, two in network.inner:
            change(one, two)
        scale = 30 / network(latents).square().mean().sqrt()
        network.last.weight.mul_(scale)
        network.last.bias.mul_(scale)
        twin = QuantisedNetwork(network, prior=False).double()
        twin.calibrate(network, latents)
        expected, found = network(latents), twin(latents)
    return (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()


@pytest.mark.parametrize("growth", [1.0, 8.0, 40.0])
def test_calibration_leaves_room_for_large_inner_weights(growth):
    """Weights that grew made multipliers, shifted sums and the trunk saturate."""

    def grow(one, two):
        one.weight.mul_(growth)
        two.weight.mul_(growth)

    assert relative_error_of_calibration(grow) < 0.05


def test_dead_channels_do_not_coarsen_the_living():
    """With most hidden channels dead, calibration made all hidden activations zero."""

    def kill(one, two):
        one.weight[:5].mul_(1e-7)
        one.bias[:5] = -1e-3
        two.weight[:, :5].mul_(1e-7)
        two.weight.mul_(20)

    assert relative_error_of_calibration(kill) < 0.05


def test_biases_of_a_dead_layer_stay_in_32_bits():
    """Its activations' range is as small as its weights, beside which a bias is huge."""
    layer = QuantisedConvolution(nn.Conv2d(4, 4, 3), bits=16, needed=1.0)
    with torch.no_grad():
        layer.weight.mul_(1e-12)
        layer.bias.fill_(-0.05)
    steps = torch.full((4,), 1e-12)
    layer.calibrate(steps, steps)
    bias = layer.integers(steps, steps)[1]
    assert (bias.abs() < 2**31 - 2**27).all()


def test_lifting_with_shortcuts_starts_as_a_wavelet():
    """Of a ramp the details are zero, and the first position is what it was."""
    flow = Flow(SHAPES["tiny-shortcut"]).double()
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    ramp = squeeze((6 * rows - 4 * columns).double().expand(1, 3, 16, 16))
    latents = flow.levels[0].couple(ramp)
    inside = latents[:, :, 1:-1, 1:-1]
    assert (inside[:, 3:] == 0).all()
    assert (inside[:, :3] == ramp[:, :3, 1:-1, 1:-1]).all()
    assert torch.equal(flow.levels[0].uncouple(latents), ramp)


def test_a_sum_is_rounded_once():
    """Shortcut and network add up in sixteenths of a pixel: 0.44 + 0.44 is one pixel, not none."""
    network = Flow(SHAPES["tiny-shortcut"]).double().levels[0].couplings[0]
    with torch.no_grad():
        network.shortcut.weight.zero_()
        network.shortcut.bias.fill_(7 / 16 / OUTPUT_GAIN)
        network.last.bias.fill_(7 / 16 / OUTPUT_GAIN)
        twin = QuantisedNetwork(network, prior=False).double()
        twin.calibrate(network, 20 * torch.randn(1, 9, 8, 8).double())
        assert (twin(torch.zeros(1, 9, 4, 4).double()) == 1).all()


def test_an_untrained_flow_can_be_exported():
    flow = Flow(SHAPES["tiny-lifting"]).double()
    block = images(3, 16, 16, seed=SEED)
    twin = quantised(flow, torch.from_numpy(block).double())
    with torch.no_grad():
        expected = twin(torch.from_numpy(block).double()).sum().item()
    found = integer_model(twin).bits(block)
    assert abs(found - expected) < 0.02 * expected


def test_gradients_reach_every_parameter_of_the_quantised_flow(flows):
    _, twin, _ = flows
    loss = twin(torch.from_numpy(images(3, 16, 16, seed=SEED)).double()).sum()
    for name, gradient in zip(
        dict(twin.named_parameters()), torch.autograd.grad(loss, list(twin.parameters()))
    ):
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 9), (1, 8, 8)])
def test_integer_model_restores_every_size(flows, size):
    block = images(*size, seed=SEED)
    vectors(flows[2], block)  # raises unless the inverse restores the block


def test_export_loads_again_and_is_repeatable(flows, tmp_path):
    model = flows[2]
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        export(model, path, "tiny", {"seed": SEED})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    loaded = IntegerModel.load(paths[0])
    assert loaded.flow == json.loads(json.dumps(model.flow))
    assert all(np.array_equal(loaded.arrays[k], v) for k, v in model.arrays.items())
    block = images(2, 8, 8, seed=SEED)
    assert loaded.bits(block) == model.bits(block)


def test_validation_refuses_sums_beyond_32_bits(flows):
    model = IntegerModel(flows[2].flow, dict(flows[2].arrays))
    name = next(n for n in model.arrays if n.endswith("last.bias"))
    model.arrays[name] = np.full_like(model.arrays[name], 2**31 - 1)
    with pytest.raises(ValueError, match="sums may leave 32 bits"):
        validate(model)


def test_every_cdf_row_is_monotone_and_sums_to_the_whole():
    cdf = LogisticCDF(cdf_tables())
    for scale in range(128):
        window = int(cdf.window[scale])
        assert (32 * window + 48) * int(cdf.inverse_scale[scale]) < 2**31
        bins = np.arange(-window, window + 2)
        for phase in (-16, -1, 0, 15):
            edges = cdf.cumulative(bins, phase, scale)
            assert edges[0] == 0 and edges[-1] == ESCAPE_START
            assert (np.diff(edges) >= 1).all(), (scale, phase)


def test_integer_cdf_costs_what_the_logistic_says():
    generator = np.random.default_rng(SEED)
    scales = generator.integers(20, 110, 4000)
    means = generator.integers(-1000, 1000, 4000)
    pixels = 0.05 * 1280 ** (scales / 127)
    values = np.round(generator.logistic(means / 32, pixels)).astype(np.int64)
    starts, frequencies = LogisticCDF(cdf_tables()).intervals(values, means, scales)
    integer = np.where(starts == ESCAPE_START, 32, 16 - np.log2(frequencies)).mean()
    parameters = torch.from_numpy(np.stack([means, scales], 0)).double().view(1, 2, -1, 1)
    exact = code_length(torch.from_numpy(values).double().view(1, 1, -1, 1), parameters)
    assert integer == pytest.approx(exact.item() / math.log(2) / 4000, abs=0.01)


def test_rans_stream_decodes_to_the_same_intervals():
    generator = np.random.default_rng(SEED)
    cdf = LogisticCDF(cdf_tables())
    means, scales = generator.integers(-500, 500, 300), generator.integers(0, 128, 300)
    values = (means + 16 >> 5) + generator.integers(-6, 7, 300)
    coded = cdf.intervals(values, means, scales)
    stream = rans_encode([values], [coded]).tobytes()
    states = np.frombuffer(stream, "<u4", 32).astype(np.int64)
    words = iter(np.frombuffer(stream, "<u2", offset=128).tolist())

    def take(lane, start, frequency):
        assert start <= states[lane] & 0xFFFF < start + frequency
        states[lane] = frequency * (states[lane] >> 16) + (states[lane] & 0xFFFF) - start
        if states[lane] < 1 << 16:
            states[lane] = states[lane] << 16 | next(words)

    for n, (start, frequency) in enumerate(zip(*(c.tolist() for c in coded))):
        take(n % 32, start, frequency)
        if start == ESCAPE_START:
            take(n % 32, int(values[n]) & 0xFFFF, 1)
    assert (states == 1 << 16).all() and next(words, None) is None


def test_box_reduction_is_the_rounded_mean():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    expected = image.reshape(2, 2, 2, 2, 3).mean((1, 3))
    assert np.array_equal(box_reduce(image, 2), np.floor(expected + 0.5).astype(np.uint8))


def test_crops_are_flipped_and_transposed_parts_of_the_images_that_hold_them():
    sides = [(20, 30), (9, 9), (16, 12)]
    coded = []  # pixel = (row, column, image)
    for n, (height, width) in enumerate(sides):
        rows, columns = np.mgrid[:height, :width]
        coded.append(np.stack([rows, columns, np.full_like(rows, n)], -1).astype(np.uint8))
    sampler = CropSampler(coded, 12, {1: 1.0}, grey=0)
    crops = sampler.batch(400, 8, np.random.default_rng(SEED)).astype(int)
    seen = set()
    for y, x, n in crops:
        assert (n == n[0, 0]).all()
        if abs(y[1, 0] - y[0, 0]) != 1:
            y, x, transposed = y.T, x.T, True
        else:
            transposed = False
        down, right = y[1, 0] - y[0, 0], x[0, 1] - x[0, 0]
        assert abs(down) == abs(right) == 1
        assert (y == y[0, 0] + down * np.arange(8)[:, None]).all()
        assert (x == x[0, 0] + right * np.arange(8)).all()
        seen.add((n[0, 0], down, right, transposed))
    assert len(seen) == 2 * 8  # the image of 9×9 is smaller than the largest crop
    assert np.array_equal(crops, sampler.batch(400, 8, np.random.default_rng(SEED)))


def test_a_crop_comes_from_an_image_that_holds_it():
    small = [np.full((32, 32, 3), n, np.uint8) for n in range(50)]
    sampler = CropSampler(small, 32, {1: 0.5, 2: 0.5})
    assert len(np.unique(sampler.batch(500, 32, np.random.default_rng(SEED)))) == 50
    with pytest.raises(ValueError, match="no source holds a crop of 64"):
        sampler.batch(1, 64, np.random.default_rng(SEED))
    mixed = CropSampler([*small, np.full((80, 64, 3), 99, np.uint8)], 64, {1: 1.0})
    assert np.unique(mixed.batch(20, 64, np.random.default_rng(SEED))).tolist() == [99]
    assert len(np.unique(mixed.batch(500, 32, np.random.default_rng(SEED)))) > 40


def test_the_grey_share_of_the_crops_is_grey():
    noise = np.random.default_rng(SEED).integers(0, 256, (64, 64, 3), np.uint8)
    sampler = CropSampler([noise], 8, {1: 1.0})
    crops = sampler.batch(4000, 8, np.random.default_rng(SEED))
    grey = (crops == crops[:, :1]).all((1, 2, 3))
    assert 0.02 < grey.mean() < 0.04
    flow = to_latents(torch.from_numpy(crops[grey]), "ycocg-r")
    assert (flow[:, 1:] == 0).all()  # both colour differences


def test_schedule_depends_only_on_the_progress():
    schedule = Schedule(minutes=10, peak_rate=1e-3)
    assert schedule.rate(0, 0) == pytest.approx(1e-3 / 200)
    assert schedule.rate(300, 1000) == pytest.approx(1e-3 * 0.505)
    assert schedule.rate(600, 5000) == pytest.approx(1e-5)
    assert schedule.crop_and_batch(399) == (32, 32)
    assert schedule.crop_and_batch(400) == (64, 16)
    by_images = Schedule(minutes=10, peak_rate=1e-3, image_budget=3000)
    assert by_images.progress(600, 750) == 0.25
    assert by_images.rate(600, 1000, 1500) == pytest.approx(1e-3 * 0.505)
    assert by_images.crop_and_batch(600, 1999) == (32, 32)


def small_trainer(folder, **options):
    photographs = [images(1, 24, 24, seed=n)[0].transpose(1, 2, 0) for n in range(2)]
    schedule = Schedule(1, 1e-3, small_crop=8, large_crop=16, small_batch=2, large_batch=1)
    sampler = CropSampler(photographs, 16, {1: 1.0})
    return Trainer(Flow(SHAPES["tiny-lifting"]), schedule, sampler, {}, folder, **options)


def test_a_resumed_run_continues_exactly(tmp_path):
    whole, first = small_trainer(tmp_path), small_trainer(tmp_path)
    expected = [step(whole) for _ in range(6)]
    found = [step(first) for _ in range(3)]
    first.save()
    second = small_trainer(tmp_path)
    assert second.resume()
    found += [step(second) for _ in range(3)]
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(whole.average, second.average))


def test_a_step_that_is_not_finite_is_skipped_and_too_many_end_the_training(tmp_path):
    trainer = small_trainer(tmp_path)
    step(trainer)
    before = [p.detach().clone() for p in trainer.parameters]
    trainer.step_flow = lambda block: trainer.flow(block) * math.inf
    for _ in range(SKIPPED_LIMIT - 1):
        assert math.isnan(step(trainer))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.parameters))
    assert (trainer.step, trainer.images) == (1, 2)
    with pytest.raises(FloatingPointError, match="diverged"):
        step(trainer)
    trainer.step_flow = trainer.flow
    assert math.isfinite(step(trainer)) and trainer.skipped == 0


def test_a_stopped_run_keeps_what_it_learned(tmp_path):
    trainer = small_trainer(tmp_path)
    trainer.train_step = lambda: (Trainer.train_step(trainer), trainer.stop())[0]
    trainer.run()
    again = small_trainer(tmp_path)
    assert again.resume() and again.step == 1 and not again.finished()


def step(trainer):
    """One update that counts as ten seconds of training."""
    loss = trainer.train_step()
    trainer.seconds += 10
    return loss


def test_no_thread_computes_with_denormals():
    program = (
        "import torch, trainer; torch.set_num_threads(2);"
        "print(int((torch.full((1 << 20,), 1e-40) * 0.5).view(torch.int32).count_nonzero()))"
    )
    folder = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "0"
