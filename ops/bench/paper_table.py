"""Measures models in the layout of IODF's table: bits/dim, latency by batch, bandwidth.

    ops/bench/paper --data DIR [--set photos64] [--count N] NAME=FILE...

FILE is one of

* a model file, or a profile's name;
* SHAPE:CHECKPOINT.pt: a checkpoint of a float stage of ops/training, before or after pruning, with
  the shape that the run began with (averaged weights are taken);
* float:SHAPE or int8:SHAPE: random weights, for the times alone, which do not depend on weights.

The shapes are those of ops/training: the profiles, and the paper's (paper-idf-dense-64,
paper-idf-res-64, paper-pruned-64, …-32). The images are the tiles of one set, all of one size.

* analytic bpd: −log2 of the exact discretised logistic with what the networks predict, all
  images; see ops/bench/overhead.
* coding bpd: whole files of a dataset, everything counted but the model.
* latency: milliseconds of one thread for each image of a block of 4, 8, … images: pixels to latents
  with all means and scales. Integer models run in `flowpack bench codec`, float flows in PyTorch.
* bandwidth: 10^6 bytes of pixels per second of one thread at the largest batch, from pixels to
  payload as in the paper; and back, which the paper does not have.

Times are processor time, the one that one run in twenty falls below. A float flow cannot be decoded
on another machine, so it is not coded and has neither coding bpd nor bandwidth.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from code_length import code_length, exact_bits
from dataset import Dataset, add_program_option, model_name
from formats import run
from imagesets import bits_per_dimension, planar, read_rgb, valid_sets
from tables import table
from timing import best_seconds

import flow
import paper
from export import export, integer_model
from integer import IntegerModel
from prune import flow_like
from quantise import quantised

BATCHES = (4, 8, 16, 32, 64)
SECONDS = 0.5  # for each measurement
CALIBRATION_IMAGES = 2
STARTS = {**flow.SHAPES, **{name: recipe.start for name, recipe in paper.RECIPES.items()}}
RANDOM_SHAPES = {**flow.SHAPES, **paper.SHAPES}


@dataclass(frozen=True)
class Row:
    """A line of the table; bits per dimension, milliseconds per image, MB/s; None: not measured."""

    name: str
    analytic: float | None
    coding: float | None
    latency: tuple  # for each of BATCHES that the set has images for
    encode: float | None
    decode: float | None


def model_row(name, model, program, folder, files, scratch):
    """The Row of a model, a profile's name or a file."""
    pictures = [read_rgb(f) for f in files]
    samples = sum(p.size for p in pictures)
    dataset = Dataset.compress(program, folder, scratch / "dataset", model)
    length = code_length(IntegerModel.load(dataset.model_file), planar(pictures))
    return Row(
        name,
        length.analytic / samples,
        bits_per_dimension(dataset.bytes, samples),
        *model_speeds(program, model, folder, files),
    )


def model_speeds(program, model, folder, files):
    """(latency, encode, decode) of a Row, for blocks of the images in a folder."""
    side, _, _ = read_rgb(files[0]).shape
    rows = json.loads(run([
        program, "bench", "codec", "--model", model, "--images", folder, "--size", side,
        "--batch", ",".join(map(str, batches(files))), "--stage", "forward,encode,decode",
        "--seconds", SECONDS, "--json",
    ])[1])["rows"]  # fmt: skip
    rates = {(row["stage"], row["batch"]): row["megabytes_per_second"] for row in rows}
    latency = tuple(3e-3 * side**2 / rates["forward", batch] for batch in batches(files))
    return latency, *(rates[stage, batches(files)[-1]] for stage in ("encode", "decode"))


def batches(files):
    """Those of BATCHES that there are images for; all images where there are fewer."""
    return [batch for batch in BATCHES if batch <= len(files)] or [len(files)]


def random_row(name, kind, shape, program, folder, files, scratch):
    """The Row of a shape with random weights, `float` or `int8`."""
    torch.manual_seed(0)
    model = flow.Flow(known_shape(RANDOM_SHAPES, shape))
    if kind == "float":
        return Row(name, None, None, float_latency(model, files), None, None)
    few = torch.from_numpy(planar([read_rgb(f) for f in files[:CALIBRATION_IMAGES]]))
    path = scratch / f"{shape}.safetensors"
    export(integer_model(quantised(model, few)), path, shape, {"data": "none: random weights"})
    return Row(name, None, None, *model_speeds(program, str(path), folder, files))


def checkpoint_row(name, shape, file, files):
    """The Row of a float flow."""
    model = load_checkpoint(shape, file)
    pictures = torch.from_numpy(planar([read_rgb(f) for f in files]))
    bits = sum(float_bits(model, part) for part in pictures.split(BATCHES[-1]))
    return Row(name, bits / pictures.numel(), None, float_latency(model, files), None, None)


def load_checkpoint(shape, file):
    """The flow of a checkpoint of the stages float and tune, with the averaged weights."""
    start = known_shape(STARTS, shape)
    state = torch.load(file, map_location="cpu", weights_only=False)
    model = flow_like(start, state["flow"])
    model.load_state_dict(state["flow"])
    with torch.no_grad():
        for parameter, average in zip(model.parameters(), state["average"]):
            parameter.copy_(average)
    return model


def known_shape(shapes, name):
    if name not in shapes:
        raise SystemExit(f"no shape {name}; there are {', '.join(shapes)}")
    return shapes[name]


@torch.no_grad()
def float_bits(model, images):
    total = 0.0
    for values, parameters in model.passes(images):
        means, indices = parameters.double().chunk(2, 1)
        indices = indices.clamp(0, flow.SCALE_COUNT - 1)
        total += exact_bits(values.numpy(), means.numpy(), indices.numpy()).sum()
    return total


@torch.no_grad()
def float_latency(model, files):
    """Milliseconds per image of all networks of a float flow, by batch."""
    model = model.to(memory_format=torch.channels_last).eval()
    images = torch.from_numpy(planar([read_rgb(f) for f in files[: BATCHES[-1]]]))

    def milliseconds(batch):
        def forward():
            for _ in model.passes(images[:batch]):
                pass

        return 1e3 * best_seconds(forward, SECONDS) / batch

    return tuple(map(milliseconds, batches(files)))


def layout(rows, batches):
    """The table in Markdown."""
    heads = [f"ms/image, batch {batch}" for batch in batches]
    cells = [["", "analytic bpd", "coding bpd", *heads, "bandwidth MB/s", "decode MB/s"]]
    for row in rows:
        cells.append([
            row.name, number(row.analytic, 3), number(row.coding, 3),
            *(number(ms, 3) for ms in row.latency), number(row.encode, 2), number(row.decode, 2),
        ])  # fmt: skip
    return table(cells)


def number(value, decimals):
    return "–" if value is None else f"{value:.{decimals}f}"


def main():
    parser = argparse.ArgumentParser(
        prog="ops/bench/paper", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", required=True, help="folder that holds valid/")
    parser.add_argument("--set", default="photos64", choices=("photos64", "cifar"))
    parser.add_argument("--count", type=int, help="the first COUNT images")
    parser.add_argument("--out", type=Path, metavar="TABLE.md", help="write the table there too")
    add_program_option(parser)
    parser.add_argument("rows", nargs="+", metavar="NAME=FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)

    (images,) = valid_sets(options.data, [options.set], options.count)
    rows = []
    for item in options.rows:
        name, _, file = item.rpartition("=")
        shape, _, file = file.rpartition(":")
        with tempfile.TemporaryDirectory() as scratch_name:
            scratch = Path(scratch_name)
            folder = scratch / "images"
            files = images.write(folder)
            if shape in ("float", "int8"):
                name = name or f"{file} {shape}, random weights"
                rows.append(
                    random_row(name, shape, file, options.flowpack, folder, files, scratch)
                )
            elif shape:
                rows.append(checkpoint_row(name or shape, shape, file, files))
            else:
                name = name or model_name(file)
                rows.append(model_row(name, file, options.flowpack, folder, files, scratch))
        text = f"{images.name}, {len(files)} images\n\n{layout(rows, batches(files))}\n"
        print(text, flush=True)
        if options.out:
            options.out.write_text(text)


if __name__ == "__main__":
    main()
