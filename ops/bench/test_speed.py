"""What the tools that measure speed compute, without running a benchmark."""

import argparse
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

import kernels
import speed
from kernels import Shape
from speed import SetSpeeds, Speed, Timer
from timing import best_seconds, positive


def timer(*differences):
    result = Timer()
    result.works = dict(enumerate(differences))
    result.starts = dict.fromkeys(result.works, 0.0)
    return result


def set_speeds(name="tiles"):
    speeds = [
        Speed("PNG optipng", 600, None, 0.0001),
        Speed("JPEG XL -e 1", 400, 0.0002, 0.0004),
        Speed("Flowpack fast", 300, 0.0004, 0.0003),
    ]
    return SetSpeeds(name, 4, 1200, speeds)


class TestStarts:
    def test_the_time_of_starts_is_subtracted(self, monkeypatch):
        monkeypatch.setattr(speed, "processor_seconds", lambda work: work())
        measured = Timer()
        for name in range(3):
            measured.measure(name, lambda: 3.0, start=lambda: 1.0)
        assert measured.seconds == 6.0

    def test_the_least_time_of_each_command_counts(self, monkeypatch):
        monkeypatch.setattr(speed, "processor_seconds", lambda work: work())
        measured = Timer()
        for work, start in ((3.0, 2.0), (4.0, 1.0)):
            measured.measure("image", lambda: work, start=lambda: start)
        assert measured.seconds == 2.0

    @pytest.mark.parametrize("differences", [(1.0, 1.0, 1.2), (0.1,), (1.0, 1.5) * 50])
    def test_times_are_summed(self, differences):
        assert timer(*differences).seconds == pytest.approx(sum(differences))

    @pytest.mark.parametrize("differences", [(-0.1,), (1.0, 2.0), (0.01, -0.01) * 50 + (0.02,)])
    def test_where_the_error_is_large_nothing_is_said(self, differences):
        assert timer(*differences).seconds is None

    def test_only_processor_time_counts(self):
        assert speed.processor_seconds(lambda: time.sleep(0.05)) < 0.04
        assert speed.processor_seconds(lambda: sum(range(300_000))) > 0


class TestSpeedReport:
    def test_a_row_has_size_and_both_rates(self):
        lines = speed.report(set_speeds()).splitlines()
        assert lines[2:] == [
            "| format | bits/dim | encode MB/s | decode MB/s |",
            "| --- | --: | --: | --: |",
            "| PNG optipng | 4.000 | – | 12.0 |",
            "| JPEG XL -e 1 | 2.667 | 6.00 | 3.00 |",
            "| Flowpack fast | 2.000 | 3.00 | 4.00 |",
        ]

    def test_the_plot_names_every_format_and_set(self, tmp_path):
        speed.plot([set_speeds("one"), set_speeds("two")], tmp_path / "p.svg")
        text = (tmp_path / "p.svg").read_text()
        labels = ("one, 4 images", "two, 4 images", "JPEG XL", "-e 1", "Flowpack", "fast")
        drawn = set(re.findall("<!-- (.*) -->", text))
        assert drawn.issuperset(labels)

    def test_every_pixel_is_compared(self, tmp_path):
        pixels = np.zeros((2, 3, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.ppm")
        Image.fromarray(pixels).save(tmp_path / "b.png")
        speed.check(tmp_path / "a.ppm", tmp_path / "b.png")
        pixels[1, 2, 0] = 1
        Image.fromarray(pixels).save(tmp_path / "b.png")
        with pytest.raises(SystemExit, match="did not come back"):
            speed.check(tmp_path / "a.ppm", tmp_path / "b.png")

    def test_folders_become_ppm_files_with_the_same_names(self, tmp_path):
        source = tmp_path / "png/x"
        source.mkdir(parents=True)
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        Image.fromarray(pixels).save(source / "a.png")
        (file,) = speed.as_ppm([source / "a.png"], tmp_path / "png", tmp_path / "ppm")
        assert file == tmp_path / "ppm/x/a.ppm"
        assert file.read_bytes() == b"P6\n4 2\n255\n" + pixels.tobytes()


class TestKernels:
    def test_plain_convolutions_are_read(self):
        assert Shape.parse("3x3 64→32 16×8×4") == Shape(3, 64, 32, 16, 8, 4)
        assert Shape.parse("3x3 64→32 16×8×4").macs == 9 * 64 * 32 * 16 * 8 * 4

    @pytest.mark.parametrize("text", ["3x3 9→16 16×32×32 first", "3x1 64→64 4×8×8", "3x3 64→64"])
    def test_other_layers_are_left_out(self, text):
        assert Shape.parse(text) is None

    def test_ours_are_compared_with_onednn_on_the_same_instruction_set(self):
        shape, other = "3x3 64→64 4×8×8", "3x3 8→4 1×8×8"
        rates = {
            ("peak", "avx2"): 60.0 / 0.9, ("ours", "avx2", shape): 60.0,
            ("peak", "amx"): 1800.0, ("ours", "amx", shape): 900.0, ("ours", "amx", other): 9.0,
            ("onnx", None, shape): 300.0, ("onednn", None, shape): 610.0,
            ("onednn", "AVX2", shape): 40.0, ("onednn", "AVX512_CORE_AMX", shape): 600.0,
        }  # fmt: skip
        assert kernels.int8_table(rates).splitlines()[2:] == [
            f"| {shape} | avx2 | 60 | 90.0 % | 40 | 1.50 | 610 | 300 | 0.20 |",
            f"| {shape} | amx | 900 | 50.0 % | 600 | 1.50 | 610 | 300 | 3.00 |",
        ]

    def test_float_convolutions_are_compared_with_the_best_set(self):
        shape = "3x3 64→64 4×8×8"
        rates = {
            ("peak", "avx2"): 60.0, ("ours", "avx2", shape): 60.0,
            ("peak", "amx"): 900.0, ("ours", "amx", shape): 900.0,
            ("float32", None, shape): 90.0,
        }  # fmt: skip
        lines = kernels.float_table(rates).splitlines()
        assert lines[2:] == [f"| {shape} | 90 | 0.105 | 900 | 0.010 | 10.00 |"]

    def test_the_reference_and_other_layers_are_not_compared(self, monkeypatch):
        shape = "3x3 8→8 1×8×8"
        rows = [
            {"shape": name, "isa": isa, "gmacs_per_second": 40.0, "share_of_peak": share}
            for name, isa, share in [
                (shape, "reference", None), (shape, "sse41", 0.8), (f"{shape} last", "sse41", 0.8)
            ]
        ]  # fmt: skip
        monkeypatch.setattr(kernels, "run", lambda command: (0, json.dumps({"rows": rows})))
        rates = kernels.our_rates("flowpack", None, 0.1)
        assert rates == {("peak", "sse41"): 50.0, ("ours", "sse41", shape): 40.0}


def test_the_best_time_is_of_one_run():
    runs = []
    assert 0 <= best_seconds(lambda: runs.append(len(runs)), 0) < 0.1
    assert len(runs) == 2  # one that is not counted


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", ""])
def test_there_is_at_least_one_round(text):
    assert positive("3") == 3
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 on"):
        positive(text)
