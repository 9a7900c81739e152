"""Tests of importing model files and of fine-tuning them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import finetune
import trainer
from export import export, integer_model
from flow import SHAPES, NetworkShape, ResidualNetwork, coupling_units
from folder import crop_side, sample_folder, window
from importer import import_flow
from integer import IntegerModel, cdf_tables
from quantise import quantised
from vectors import images, random_flow

SEED = 7
SHIPPED = sorted(finetune.MODELS.glob("*.safetensors"))
VECTORS = Path(__file__).parents[2] / "Tests" / "Fixtures" / "vectors"
GOLDEN = [VECTORS / f"{name}.model.safetensors" for name in ("tiny-lifting", "tiny-permuted", "tiny-shortcut")]

torch.set_num_threads(1)


def tiny_model(name, seed=SEED):
    """The integer model of a tiny flow of random weights."""
    flow = random_flow(SHAPES[name], seed)
    return integer_model(quantised(flow, torch.from_numpy(images(6, 16, 16, seed)).double()))


def photographs(folder, count=20, height=24, width=24):
    """A folder of PNG files with smooth, slightly noisy images; its path."""
    folder.mkdir(exist_ok=True)
    for n in range(count):
        pixels = images(1, height, width, seed=SEED + n)[0].transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{n:03d}.png")
    return folder


@pytest.fixture
def start(tmp_path):
    """A tiny model file that does not know the photographs."""
    path = tmp_path / "start.safetensors"
    export(tiny_model("tiny-lifting"), path, "tiny", {"data": "random weights", "licence": "none"})
    return path


def options(tmp_path, start, *more):
    data = tmp_path / "photographs"
    if not data.exists():
        photographs(data)
    words = ["--data", data, "--from", start, "-o", tmp_path / "out.safetensors", *more]
    return finetune.arguments([str(word) for word in words])


@pytest.fixture
def updates(monkeypatch):
    """`updates(n)`: the minute of training lasts n updates, of which `call(step)` hears."""
    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr(trainer, "WARM_UP_STEPS", 1)
    monkeypatch.setattr(finetune, "PIXELS_PER_STEP", 2**12)
    original = trainer.Trainer.train_step

    def set_up(count, call=lambda step: None):
        def train_step(self):
            loss = original(self)
            self.seconds += 60 / count
            call(self.step)
            return loss

        monkeypatch.setattr(trainer.Trainer, "train_step", train_step)

    return set_up


def assert_same_model(found, expected):
    assert found.flow == expected.flow
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype, name
        assert np.array_equal(found.arrays[name], array), name


def test_importing_and_exporting_gives_the_same_model(tmp_path):
    for name in ("tiny-lifting", "tiny-permuted", "tiny-shortcut"):
        model = tiny_model(name)
        model.flow.update(correctsScales=True, correctsMeans=True, mirrors=True)
        export(model, tmp_path / name, name, {})
        loaded = IntegerModel.load(tmp_path / name)
        assert_same_model(integer_model(import_flow(loaded, name)), model)


@pytest.mark.parametrize("path", SHIPPED + GOLDEN, ids=lambda path: path.stem)
def test_model_files_are_imported_exactly(path):
    model = IntegerModel.load(path)
    model.arrays.update(cdf_tables())  # the file may have older ones
    assert_same_model(integer_model(import_flow(model, path.stem)), model)


def test_networks_may_differ_in_width_and_depth():
    shape = SHAPES["tiny-lifting"]
    flow = random_flow(shape, SEED)
    level = flow.levels[0]
    wide = NetworkShape(10, (6, 4))
    level.couplings[1] = ResidualNetwork(9, 3, wide, *coupling_units(3)).double()
    model = integer_model(quantised(flow, torch.from_numpy(images(6, 16, 16, SEED)).double()))
    assert_same_model(integer_model(import_flow(model, "mixed")), model)


def test_a_multiplier_that_was_rounded_up_to_a_power_of_two_keeps_its_shift():
    model = tiny_model("tiny-lifting")
    for name, array in list(model.arrays.items()):
        if name.endswith("one.multiplier"):
            model.arrays[name] = np.where(array == array.max(), 2**14, array).astype(np.int16)
    model = IntegerModel(model.flow, model.arrays)
    assert_same_model(integer_model(import_flow(model, "rounded")), model)


def test_a_layer_without_weights_is_imported():
    model = tiny_model("tiny-lifting")
    name = next(name for name in model.arrays if name.endswith("one.weight"))
    model.arrays[name] = np.zeros_like(model.arrays[name])
    model = IntegerModel(model.flow, model.arrays)
    assert_same_model(integer_model(import_flow(model, "dead")), model)


def test_other_networks_are_refused():
    model = tiny_model("tiny-lifting")
    model.flow["levels"][0]["steps"][0]["network"]["ops"].pop()
    with pytest.raises(ValueError, match="only residual networks"):
        import_flow(model, "shorter")


def test_fine_tuning_shortens_the_code_of_images_it_did_not_see(
    tmp_path, start, updates, monkeypatch
):
    updates(12)
    monkeypatch.setattr(finetune, "RATE", 3e-3)
    chosen = options(tmp_path, start, "--minutes", 1, "--name", "mine")
    finetune.fine_tune(chosen)

    held_out = sample_folder(chosen.data, 4, chosen.seed).held_out
    before = IntegerModel.load(start).bits_per_dimension(held_out)
    after = IntegerModel.load(chosen.output).bits_per_dimension(held_out)
    assert after < before - 0.05

    provenance = finetune.read_provenance(chosen.output)
    assert provenance["data"] == "photographs"
    assert provenance["parent"] == finetune.Start(start).summary()
    assert provenance["parent"]["licence"] == "none"
    assert (provenance["steps"], provenance["images"]) == (12, 12 * (2**12 // 24**2))
    assert provenance["bitsPerDimension"]["heldOut"] == {
        "before": round(before, 4), "after": round(after, 4)
    }
    assert str(tmp_path).encode() not in chosen.output.read_bytes()


def test_the_start_is_kept_when_nothing_is_better(tmp_path, start, updates, monkeypatch, capsys):
    updates(5)
    monkeypatch.setattr(finetune, "RATE", 3.0)
    chosen = options(tmp_path, start, "--minutes", 1)
    finetune.fine_tune(chosen)
    assert chosen.output.read_bytes() == start.read_bytes()
    assert "no gain" in capsys.readouterr().out


def test_an_interrupted_run_writes_its_best_and_continues_exactly(tmp_path, start, updates):
    def average(run):
        return torch.load(tmp_path / run / "checkpoint.pt", weights_only=False)["average"]

    updates(6)
    uncut = options(tmp_path, start, "--minutes", 1, "--run", tmp_path / "whole", "--force")
    finetune.fine_tune(uncut)
    whole = uncut.output.read_bytes()

    updates(6, lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 3 else None)
    parts = options(tmp_path, start, "--minutes", 1, "--run", tmp_path / "parts", "--force")
    finetune.fine_tune(parts)
    assert finetune.read_provenance(parts.output)["steps"] == 3
    finetune.fine_tune(parts)
    assert parts.output.read_bytes() == whole
    assert all(torch.equal(a, b) for a, b in zip(average("whole"), average("parts"), strict=True))


def test_a_run_folder_serves_one_start_only(tmp_path, start, updates):
    updates(1)
    finetune.fine_tune(options(tmp_path, start, "--minutes", 1))
    other = tmp_path / "other.safetensors"
    export(tiny_model("tiny-permuted"), other, "tiny", {})
    with pytest.raises(SystemExit, match="belongs to another model"):
        finetune.fine_tune(options(tmp_path, other, "--force"))


def test_what_cannot_work_is_refused_first(tmp_path, start):
    def refuses(message, *words, start=start):
        with pytest.raises(SystemExit, match=message):
            finetune.fine_tune(options(tmp_path, start, *words))

    (tmp_path / "empty").mkdir()
    small = photographs(tmp_path / "small", height=3)
    single = photographs(tmp_path / "single", count=1)
    (tmp_path / "there").touch()
    refuses("neither a file nor one of", start="slow")
    refuses("cannot be fine-tuned", start=tmp_path / "there")
    refuses("not a folder", "--data", tmp_path / "there")
    refuses("no PNG, PNM, JPEG or WebP", "--data", tmp_path / "empty")
    refuses("at least 4×4 pixels", "--data", small)
    refuses("too few images", "--data", single)
    refuses("--force replaces it", "-o", tmp_path / "there")
    refuses("its folder does not exist", "-o", tmp_path / "nowhere" / "out")


def test_without_pytorch_the_way_out_is_named():
    command = [sys.executable, "-S", finetune.__file__, "--help"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert "torch is missing; ops/train installs it" in found.stderr


def test_every_tenth_image_is_measured_and_never_trained_on(tmp_path):
    folder = tmp_path / "levels"
    folder.mkdir()
    for n in range(25):
        Image.new("RGB", (16, 16), (n, n, n)).save(folder / f"{n:02d}.png")
    sample = sample_folder(folder, 8, SEED)
    assert sorted(sample.held_out[:, 0, 0, 0]) == [0, 10, 20]
    assert {i[0, 0, 0] for i in sample.training} == set(range(25)) - {0, 10, 20}


def test_folders_of_all_kinds_are_sampled(tmp_path):
    generator = np.random.default_rng(SEED)
    for n in range(12):
        pixels = generator.integers(0, 256, (20, 31, 3), dtype=np.uint8)
        image = Image.fromarray(pixels if n % 2 else pixels[:, :, 0])
        image.save(tmp_path / f"{n:02d}.{('png', 'jpg', 'webp')[n % 3]}")
    (tmp_path / "99.png").write_bytes(b"damaged")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "98.png")
    sample = sample_folder(tmp_path, 8, SEED)
    assert sample.crop == 24  # 20 rows, extended by repeating the last
    assert sample.stored == 8
    assert sorted(path.name for path in sample.unusable) == ["98.png", "99.png"]
    assert all(np.array_equal(i[19], i[23]) for i in sample.training)
    assert all(i.shape == (24, 32, 3) for i in sample.training)


def test_the_crop_suits_nearly_all_images():
    def side(*sizes):
        return crop_side([np.empty((*size, 3), np.uint8) for size in sizes], 8)

    assert side((64, 64)) == 64
    assert side((8, 500)) == 8
    assert side((1000, 1000), (16, 16)) == 128
    assert side((64, 64), (32, 32), (32, 32)) == 32


def test_large_images_are_cut_to_a_window_that_varies(tmp_path, monkeypatch):
    monkeypatch.setattr("folder.WINDOW", 16)
    pixels = np.arange(40 * 40 * 3, dtype=np.uint32).reshape(40, 40, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    generator = np.random.default_rng(SEED)
    parts = [window(tmp_path / "large.png", 8, generator) for _ in range(3)]
    assert all(part.shape == (16, 16, 3) for part in parts)
    assert not np.array_equal(parts[0], parts[1])
