"""Tests of the stages on the command line, from images to a file, and of their interruption."""

import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import train
import trainer
from integer import IntegerModel
from quantise import QuantisedConvolution
from vectors import images

SEED = 3
SHARE = 0.8
IMAGES = 240  # of the float stage; an untrained flow has no scale to quantise by
MINUTES = 0.01  # of the others


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: 20 images of 24×24 and 16×24 in two folders."""
    root = tmp_path_factory.mktemp("images")
    (root / "more").mkdir()
    for n in range(20):
        height = 24 if n < 15 else 16
        pixels = images(1, height, 24, seed=n)[0].transpose(1, 2, 0)
        Image.fromarray(pixels).save(root / ("more" if n % 2 else ".") / f"{n:02}.png")
    return root


def options(folder, run, *more):
    words = ["all", "--data", folder, "--run", run, "--shape", "tiny-lifting", "--batch", 4]
    words += ["--images", IMAGES, "--channel-group", 4, "--keep-multiplications", SHARE]
    words += ["--precision", "fp32"]
    for name in list(train.STAGES)[1:]:
        words += [f"--{name}-minutes", MINUTES]
    return [str(word) for word in (*words, *more)]


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run that took all stages, as the command leaves it."""
    run = tmp_path_factory.mktemp("run")
    train.main(options(folder, run))
    return train.Run(train.parser().parse_args(options(folder, run)))


def test_every_stage_leaves_a_checkpoint_and_the_run_its_curves(finished):
    assert finished.stages() == list(train.STAGES)
    for stage, log in finished.logs().items():
        assert log, stage
        seconds, step, seen, loss, measured, cost = log[-1]
        assert step > 0 and seen >= step and cost > 0
        assert measured.keys() == {"held-out"}
    for name in ("training.png", "tiny-lifting-training.png"):
        with Image.open(finished.folder / name) as plot:
            assert plot.size == (800, 450)


def test_the_pruned_flow_costs_the_share_in_every_later_stage(finished):
    whole = train.kilo_multiplications(finished.averaged("float"))
    for stage in ("tune", "activations", "quantise"):
        assert train.kilo_multiplications(finished.averaged(stage)) <= SHARE * whole


def test_the_exported_file_is_the_fake_quantised_flow(finished):
    model = IntegerModel.load(finished.folder / "tiny-lifting.safetensors")
    flow = finished.averaged("quantise").double()
    block = images(3, 16, 16, seed=SEED)
    with torch.no_grad():
        passes = list(flow.passes(torch.from_numpy(block).double()))
    counts = [len(level.plan.groups) for level in flow.levels]
    ordered = passes[counts[0] :] + passes[: counts[0]]
    for (values, parameters), expected in zip(ordered, model.forward(block), strict=True):
        means, scales = parameters.chunk(2, 1)
        for found, whole in zip((values, means, scales.clamp(0, 127)), expected, strict=True):
            assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), whole)


def test_only_the_last_stage_rounds_weights_and_learns_their_steps(finished):
    def parts(stage):
        flow = finished.averaged(stage).double()
        network = flow.levels[0].couplings[0]
        weight, *_ = network.first.integers(network.input_step, network.trunk_step)
        steps = [m.log_step.detach() for m in flow.modules() if isinstance(m, QuantisedConvolution)]
        return weight.detach(), torch.cat(steps)

    start = finished.first_flow("activations")
    first = [m.log_step for m in start.modules() if isinstance(m, QuantisedConvolution)]
    float_weight, float_steps = parts("activations")
    whole_weight, whole_steps = parts("quantise")
    assert not torch.equal(float_weight, float_weight.round())
    assert torch.equal(whole_weight, whole_weight.round())
    assert torch.equal(float_steps, torch.cat(first).detach().double())
    assert not torch.equal(float_steps, whole_steps)
    with pytest.raises(ValueError, match="outside"):
        train.integer_model(finished.averaged("activations"))


def test_a_finished_run_trains_no_further(finished, folder):
    def steps():
        return {stage: finished.state(stage)["step"] for stage in finished.stages()}

    before = steps()
    train.main(options(folder, finished.folder))
    assert steps() == before


def test_models_that_are_not_pruned_skip_gate_and_tune(folder, tmp_path):
    run = train.Run(
        train.parser().parse_args(options(folder, tmp_path, "--keep-multiplications", 1))
    )
    assert run.stages() == ["float", "activations", "quantise"]
    with pytest.raises(SystemExit, match="float, activations, quantise"):
        run.trainer("gate")


def test_a_signal_writes_a_checkpoint_and_ends_well(folder, tmp_path, monkeypatch):
    original = trainer.Trainer.train_step

    def train_step(self):
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    monkeypatch.setattr(trainer.Trainer, "train_step", train_step)
    words = options(folder, tmp_path)
    with pytest.raises(SystemExit) as ended:
        train.main(words)
    assert ended.value.code == 0
    run = train.Run(train.parser().parse_args(words))
    assert run.state("float")["step"] == 3
    assert run.state("gate") is None


def test_the_command_of_a_model_names_what_was_asked_for():
    words = ["all", "--data", "a", "--run", "b", "--gate-minutes", "2", "--compile"]
    found = train.command(train.parser().parse_args(words))
    assert found == (
        "python ops/training/train.py all --data DATA --run RUN "
        "--shape fast --gate-minutes 2.0 --compile"
    )
