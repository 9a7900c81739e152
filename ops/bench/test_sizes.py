"""What the tools of this folder compute without running an encoder."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import code_length
import formats
import sizes
from code_length import (
    CodeLength, corrected_means, exact_bits, mean_corrections, mirrored, pass_length,
    scale_corrections,
)
from dataset import FlowResult, model_name
from imagesets import (
    ImageSet, bits_per_dimension, dimensions, planar, read_rgb, strip_tiles, valid_sets,
)  # fmt: skip
from overhead import Overhead, report
from paper_table import Row, batches, checkpoint_row, float_bits, layout, load_checkpoint
from shard import FLOW, STORED, Block, Shard

from flow import SHAPES as FLOW_SHAPES
from flow import Flow
from integer import IntegerModel

FIXTURES = Path(__file__).resolve().parents[2] / "Tests/Fixtures"


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def flow_result(name, size, stored=0):
    return FlowResult(
        label=f"Flowpack {name}", bytes=size, payload_bytes=size - 50, seconds=2.0, model=name,
        model_bytes=1000, stored=stored, verify_seconds=0.5, extract_seconds=1.0,
    )  # fmt: skip


def set_sizes(name="tiles", scale=1):
    results = [
        formats.Result("PNG optimised", 600 * scale, 500 * scale),
        formats.Result("JPEG XL -e 9", 400 * scale, 400 * scale, 4.0),
        flow_result("fast", 380 * scale),
    ]
    return sizes.SetSizes(name, 4, 1200, results)


class TestSets:
    def test_a_source_is_a_folder_or_a_strip(self):
        assert ImageSet.parse("a", "x/y") == ImageSet("a", Path("x/y"))
        assert ImageSet.parse("a", "x.png:32") == ImageSet("a", Path("x.png"), 32)
        assert ImageSet.parse("a", "x.png:32:7") == ImageSet("a", Path("x.png"), 32, 7)

    @pytest.mark.parametrize("source", ["x.png:", "x.png:a", "x.png:0", "x.png:1:2:3", "x:-3"])
    def test_another_source_is_refused(self, source):
        with pytest.raises(ValueError, match="neither"):
            ImageSet.parse("a", source)

    @pytest.mark.parametrize("own, asked, held", [("", 5, 5), (":3", 5, 3), (":9", 5, 5)])
    def test_of_two_counts_the_smaller_holds(self, own, asked, held):
        assert ImageSet.parse("a", f"x.png:32{own}", asked).count == held

    def test_a_strip_becomes_its_first_images_in_order(self, tmp_path):
        strip = pixels(40, 8)
        write_png(tmp_path / "strip.png", strip)
        files = ImageSet("s", tmp_path / "strip.png", 8, 3).write(tmp_path / "images")
        assert [f.name for f in files] == ["00000.png", "00001.png", "00002.png"]
        for n, file in enumerate(files):
            assert np.array_equal(read_rgb(file), strip[8 * n : 8 * n + 8])
        assert dimensions(files) == 3 * 8 * 8 * 3

    @pytest.mark.parametrize("shape", [(40, 9), (41, 8)])
    def test_a_picture_of_another_shape_is_no_strip(self, shape):
        with pytest.raises(ValueError, match="no strip"):
            strip_tiles(pixels(*shape), 8)

    def test_a_folder_is_copied_in_the_order_of_its_names_without_other_files(self, tmp_path):
        source = tmp_path / "source"
        for n, name in enumerate(["b.png", "a/z.png", "c.png", "a/y.png"]):
            write_png(source / name, pixels(2, 3, n))
        (source / "a/notes.txt").write_text("no image")
        files = ImageSet("f", source, count=3).write(tmp_path / "images")
        names = [f.relative_to(tmp_path / "images").as_posix() for f in files]
        assert names == ["a/y.png", "a/z.png", "b.png"]
        assert files[1].read_bytes() == (source / "a/z.png").read_bytes()

    def test_a_folder_without_images_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="no PNG"):
            ImageSet("f", tmp_path / "nothing").write(tmp_path / "images")

    def test_the_sets_of_a_data_folder_can_be_chosen(self):
        chosen = valid_sets("D", ["kodak", "cifar"], 5)
        assert [(s.name, s.side, s.count) for s in chosen] == [("cifar", 32, 5), ("kodak", None, 5)]
        assert chosen[1].source == Path("D/valid/kodak")
        with pytest.raises(ValueError, match="no set kodka"):
            valid_sets("D", ["kodka"])


class TestFormats:
    def test_bits_per_dimension_of_one_byte_for_each_sample_is_eight(self):
        assert bits_per_dimension(12, 12) == 8
        assert bits_per_dimension(3, 12) == 2

    def test_png_takes_the_smaller_of_source_and_rewrite(self, tmp_path):
        flat = np.zeros((16, 16, 3), np.uint8)
        Image.fromarray(flat).save(tmp_path / "large.png", compress_level=0)
        write_png(tmp_path / "noise.png", pixels(16, 16))
        files = [tmp_path / "large.png", tmp_path / "noise.png"]
        sources = [f.stat().st_size for f in files]
        rewrites = [len(formats.optimised_png(f)) for f in files]
        assert rewrites[0] < sources[0]
        assert formats.png(files).bytes == sum(map(min, sources, rewrites))

    def test_the_payload_of_png_is_its_image_data(self, tmp_path):
        write_png(tmp_path / "a.png", pixels(5, 5))
        data = (tmp_path / "a.png").read_bytes()
        signature_header_and_end, frame = 8 + 25 + 12, 12
        assert formats.png_payload(data) == len(data) - signature_header_and_end - frame

    def test_the_payload_of_webp_is_its_lossless_chunk(self):
        chunks = b"ICCP\x03\0\0\0abc\0" + b"VP8L\x05\0\0\0vwxyz\0"
        assert formats.webp_payload(b"RIFF\0\0\0\0WEBP" + chunks) == 5
        with pytest.raises(ValueError):
            formats.webp_payload(b"RIFF\0\0\0\0WEBP" + chunks[:12])

    def test_the_payload_of_jpeg_xl_is_a_bare_codestream(self):
        assert formats.jxl_payload(b"\xff\x0axyz") == 5
        with pytest.raises(ValueError):
            formats.jxl_payload(b"\0\0\0\x0cJXL ")

    def test_a_model_is_named_by_profile_or_file(self):
        assert model_name("fast") == "fast"
        assert model_name("runs/7/fast-b.safetensors") == "fast-b"


class TestTables:
    def test_the_overview_has_a_row_for_each_format_and_a_column_for_each_set(self):
        lines = sizes.overview([set_sizes("a"), set_sizes("b", 2)]).splitlines()
        assert lines == [
            "| bits/dim, whole files | a (4) | b (4) |",
            "| --- | --: | --: |",
            "| PNG optimised | 4.000 | 8.000 |",
            "| JPEG XL -e 9 | 2.667 | 5.333 |",
            "| Flowpack fast | 2.533 | 5.067 |",
        ]

    def test_the_details_compare_with_the_best_and_show_payload_beside_whole_files(self):
        lines = sizes.details(set_sizes(), "JPEG XL -e 9").splitlines()
        assert lines[3:] == [
            "| --- | --: | --: | --: | --: | --: | --: |",
            "| PNG optimised | 600 | 4.000 | +50.00 % | 150.0 | 125.0 |  |",
            "| JPEG XL -e 9 | 400 | 2.667 | +0.00 % | 100.0 | 100.0 | 0.00 |",
            "| Flowpack fast | 380 | 2.533 | -5.00 % | 95.0 | 82.5 | 0.00 |",
            "",
            "Flowpack fast: encode with verification; verify 0.00, extract 0.00 MB/s; "
            "0 images stored as they are; model file 1,000 bytes.",
        ]

    def test_without_the_other_formats_nothing_is_compared(self):
        models = sizes.SetSizes("a", 4, 1200, [flow_result("fast", 380, stored=4)])
        text = sizes.details(models, "JPEG XL -e 9")
        assert "against" not in text and "all images stored as they are" in text

    def test_the_json_holds_every_result(self):
        data = json.loads(sizes.as_json([set_sizes()], {"cjxl": "1"}))
        (tiles,) = data["sets"]
        assert data["tools"] == {"cjxl": "1"} and tiles["dimensions"] == 1200
        assert [r["bytes"] for r in tiles["results"]] == [600, 400, 380]
        assert tiles["results"][2]["verify_seconds"] == 0.5

    def test_the_plot_names_every_format_and_set(self, tmp_path):
        sizes.plot([set_sizes("one"), set_sizes("two")], tmp_path / "p.svg")
        text = (tmp_path / "p.svg").read_text()
        labels = ("one", "two", "PNG optimised", "JPEG XL -e 9", "Flowpack fast")
        assert all(f"<!-- {label} -->" in text for label in labels)

    def test_the_table_of_the_paper_shows_what_was_not_measured(self):
        float_row = Row("float", 3.5, None, (4.0, 3.0, 2.5), None, None)
        ours = Row("8-bit", 3.51, 3.52, (1.0, 0.9, 0.8), 15.36, 17.0)
        lines = layout([float_row, ours], [4, 8, 16]).splitlines()
        assert "batch 4 | ms/image, batch 8 | ms/image, batch 16 | bandwidth" in lines[0]
        assert lines[2] == "| float | 3.500 | – | 4.000 | 3.000 | 2.500 | – | – |"
        assert lines[3] == "| 8-bit | 3.510 | 3.520 | 1.000 | 0.900 | 0.800 | 15.36 | 17.00 |"

    @pytest.mark.parametrize(
        "images, expected", [(3, [3]), (4, [4]), (20, [4, 8, 16]), (300, [4, 8, 16, 32, 64])]
    )
    def test_batches_are_those_that_the_images_fill(self, images, expected):
        assert batches(range(images)) == expected


class TestCheckpoint:
    def test_a_row_of_a_float_checkpoint_takes_the_averaged_weights(self, tmp_path):
        trained, averaged = (Flow(FLOW_SHAPES["tiny-lifting"]) for _ in range(2))
        with torch.no_grad():
            for parameter in averaged.parameters():
                parameter.add_(0.01)
        state = {"flow": trained.state_dict(), "average": list(averaged.parameters())}
        torch.save(state, tmp_path / "checkpoint.pt")
        write_png(tmp_path / "image.png", pixels(8, 8))
        files = [tmp_path / "image.png"] * 5
        row = checkpoint_row("float", "tiny-lifting", tmp_path / "checkpoint.pt", files)
        images = torch.from_numpy(planar([pixels(8, 8)] * 5))
        assert row.analytic == pytest.approx(float_bits(averaged, images) / images.numel())
        assert row.analytic != pytest.approx(float_bits(trained, images) / images.numel())
        assert (row.coding, row.encode, row.decode, len(row.latency)) == (None, None, None, 1)

    def test_an_unknown_shape_ends_with_the_names_of_all(self, tmp_path):
        with pytest.raises(SystemExit, match="no shape tiny; there are .*tiny-lifting"):
            load_checkpoint("tiny", tmp_path / "checkpoint.pt")


class TestShard:
    @pytest.mark.parametrize("file", sorted((FIXTURES / "containers").rglob("*.fpk")), ids=str)
    def test_the_sections_of_a_golden_file_add_up(self, file):
        data = file.read_bytes()
        shard = Shard.parse(data)
        assert {b.kind for b in shard.blocks} <= {FLOW, STORED}
        sections = 64 + 72 + 2 * 32 * len(shard.blocks) + shard.payload_bytes + shard.record_bytes
        assert sections == len(data)

    def test_images_are_found_in_the_blocks_of_their_size_and_large_ones_in_bands(self):
        def block(count, width, height, continues=False, kind=FLOW):
            return Block(kind, continues, count, width, height, b"")

        blocks = [
            block(1, 90, 40), block(1, 90, 40, True), block(1, 90, 10, True),
            block(2, 8, 8), block(1, 4, 4), block(1, 8, 8), block(3, 0, 0, kind=STORED),
        ]  # fmt: skip
        sizes = {"a": (8, 8), "b": (90, 90), "c": (8, 8), "d": (4, 4), "e": (8, 8)}
        samples = [
            {"name": name, "mode": "flow", "width": width, "height": height}
            for name, (width, height) in sizes.items()
        ]  # fmt: skip
        samples.insert(2, {"name": "s", "mode": "stored"})
        found = list(Shard(blocks, 6, 0).coded_images(samples))
        assert [b for b, _, _ in found] == blocks[:-1]
        assert [names for _, names, _ in found] == [["b"], ["b"], ["b"], ["a", "c"], ["d"], ["e"]]
        assert [row for _, _, row in found] == [0, 40, 80, 0, 0, 0]

    def test_there_are_golden_files(self):
        assert list((FIXTURES / "containers").rglob("*.fpk"))

    def test_a_file_cut_short_is_refused(self):
        file = next((FIXTURES / "containers").rglob("*.fpk"))
        with pytest.raises(ValueError):
            Shard.parse(file.read_bytes()[:-1])


class TestCodeLength:
    @pytest.mark.parametrize("scale", [0, 40, 90, 127])
    def test_the_exact_probabilities_sum_to_one(self, scale):
        values = np.arange(-3000, 3001)
        bits = exact_bits(values, np.full(6001, 21), np.full(6001, scale))
        assert math.isclose(np.exp2(-bits).sum(), 1, rel_tol=1e-9)

    def test_the_mean_of_a_wide_logistic_costs_its_density(self):
        # The density at the mean is 1/(4 s); a pixel of s = 64 is narrow enough.
        assert math.isclose(exact_bits(0, 0, 127), math.log2(4 * 64), rel_tol=1e-4)

    def test_far_tails_stay_finite_and_grow(self):
        bits = exact_bits(np.array([10, 100, 1000]), np.zeros(3), np.zeros(3))
        assert np.all(np.isfinite(bits)) and np.all(np.diff(bits) > 0)

    def test_the_integer_bits_are_the_coders_own(self):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        image = pixels(24, 16)
        length = code_length.code_length(model, planar([image]))
        assert length.symbols == image.size
        expected = model.bits(planar([image]))
        assert math.isclose(length.integer, expected, rel_tol=1e-9)

    def test_precision_and_escapes_are_told_apart(self):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        values, means, scales = np.array([3, 900]), np.array([96, 0]), np.array([50, 0])
        length = pass_length(model.cdf, values, means, scales)
        inside = exact_bits(values[:1], means[:1], scales[:1]).sum()
        assert (length.symbols, length.escaped) == (2, 1)
        assert abs(length.precision) < 0.01 * inside
        assert math.isclose(length.integer - length.precision - inside, 32, rel_tol=1e-9)

    def test_the_images_of_a_block_are_run_in_batches_of_the_same_sum(self, monkeypatch):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        images = planar([pixels(8, 8, n) for n in range(5)])
        together = code_length.code_length(model, images)
        monkeypatch.setattr(code_length, "BATCH_PIXELS", 2 * 8 * 8)
        apart = code_length.code_length(model, images)
        assert together.symbols == apart.symbols == images.size
        assert math.isclose(together.integer, apart.integer, rel_tol=1e-9)

    def test_corrections_of_scales_are_read_in_the_order_of_the_passes(self):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        assert scale_corrections(model, b"\x01") == (None, 0)
        model.flow["correctsScales"] = True
        assert scale_corrections(model, b"\x00stream") == (None, 1)
        channels = [values.shape[-1] for values, _, _ in model.forward(planar([pixels(8, 8)]))]
        count = sum(channels)
        offsets = np.arange(count) % 16 - 8
        halves = np.append(offsets & 15, [0] * (count % 2)).astype(np.uint8)
        section = b"\x01" + (halves[0::2] | halves[1::2] << 4).tobytes()
        corrections, size = scale_corrections(model, section + b"stream")
        assert size == len(section)
        assert [len(c) for c in corrections] == channels
        assert np.array_equal(np.concatenate(corrections), 2 * offsets)

    def test_axes_are_mirrored_as_half_a_byte_of_each_image_says(self):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        images = planar([pixels(4, 6, n) for n in range(3)])
        assert mirrored(model, images, b"stream") == (images, 0)
        model.flow["mirrors"] = True
        coded, size = mirrored(model, images, b"\x21\x04stream")
        assert size == 2
        expected = images[0, :, :, ::-1], images[1, :, ::-1], images[2, ::-1]
        assert np.array_equal(coded, np.stack(expected))

    def test_corrections_shift_the_scales_of_their_channels(self):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        images = planar([pixels(8, 8)])
        passes = model.forward(images)
        corrections = [np.full(values.shape[-1], 6) for values, _, _ in passes]
        expected = sum(
            exact_bits(values, means, np.minimum(scales + 6, 127)).sum()
            for values, means, scales in passes
        )
        length = code_length.code_length(model, images, corrections)
        assert math.isclose(length.analytic, expected, rel_tol=1e-9)

    def test_corrections_of_means_are_read_in_the_order_of_passes_and_images(self):
        model = IntegerModel.load(FIXTURES / "vectors/tiny-lifting.model.safetensors")
        assert mean_corrections(model, b"stream", 2) == (None, 0)
        model.flow["correctsMeans"] = True
        channels = [values.shape[-1] for values, _, _ in model.forward(planar([pixels(8, 8)]))]
        each = channels[1] * (channels[1] + 1) // 2
        section = b"\x02" + bytes(range(200, 200 + 2 * each))
        coefficients, size = mean_corrections(model, section + b"stream", 2)
        assert size == len(section)
        assert [c is None for c in coefficients] == [n != 1 for n in range(len(channels))]
        assert np.array_equal(coefficients[1].ravel(), np.arange(200, 200 + 2 * each) - 256)

    def test_means_move_by_constants_and_weighted_residuals_of_the_channels_before(self):
        values, means = np.array([[[[3, 1, 0]]]]), np.array([[[[64, 0, 7]]]])
        moved = corrected_means(values, means, np.array([[2, 1, 16, -3, 8, -4]]))
        residuals = 3 * 32 - 64, 32
        assert moved[0, 0, 0].tolist() == [
            66,
            1 + (16 * residuals[0] + 16 >> 5),
            7 - 3 + (8 * residuals[0] - 4 * residuals[1] + 16 >> 5),
        ]

    def test_the_report_sums_blocks_and_files(self):
        length = CodeLength(analytic=8000.0, precision=8.0, escapes=16.0, symbols=3000, escaped=2)
        overhead = Overhead(length, 3000, 1, 0, 1010, 5, 32, 40, 136, 800)
        parts = dict(overhead.parts())
        assert parts["rANS states and words"] == 1010 - 5 - 1003
        assert parts["**blocks**"] == 1042 and parts["**files**"] == 1042 + 32 + 40 + 136 + 800
        text = report("x", overhead)
        assert "| **blocks** | 1,042 | 2.77867 | 4.200 % |" in text
        assert "| block headers | 32 | 0.08533 | 3.200 % |" in text
