"""Measures models in the layout of IODF's table: bits/dim, latency by batch, bandwidth.

    ops/bench/paper --data DIR [--set photos64] [--count N] NAME=FILE...

FILE is a model file, a profile's name, or SHAPE:CHECKPOINT.pt: a checkpoint of a float stage of
ops/training, before or after pruning, with the shape that the run began with (averaged weights are
taken). The images are the tiles of one set, all of one size.

* analytic bpd: −log2 of the exact discretised logistic with what the networks predict, all
  images; see ops/bench/overhead.
* coding bpd: whole files of a dataset, everything counted but the model.
* latency: milliseconds for each image of a block of 4, 8, … images, one thread, the best of
  several runs. Of a model file: `flowpack verify`, which reads, decodes (entropy decoder and all
  networks) and checks digests. Of a checkpoint: the networks alone, in PyTorch with 32-bit
  floats. The two kinds of rows say what their programs take, not what the same work takes.
* bandwidth: 10^6 bytes of pixels per second at the largest batch, from the same runs.

A float flow cannot be decoded on another machine, so it is not coded and has neither coding bpd
nor bandwidth.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from code_length import code_length, exact_bits
from dataset import Dataset, add_program_option, model_name
from imagesets import bits_per_dimension, planar, read_rgb, valid_sets
from tables import table

import flow
import paper
from integer import IntegerModel
from prune import flow_like

BATCHES = (4, 8, 16, 32, 64)
RUNS = 5
SHAPES = {**flow.SHAPES, **{name: recipe.start for name, recipe in paper.RECIPES.items()}}


@dataclass(frozen=True)
class Row:
    """A line of the table; bits per dimension, milliseconds per image, MB/s; None: not measured."""

    name: str
    analytic: float
    coding: float | None
    latency: tuple  # for each of BATCHES that the set has images for
    bandwidth: float | None


def model_row(name, model, program, folder, files, scratch):
    """The Row of a model, a profile's name or a file."""
    pictures = [read_rgb(f) for f in files]
    samples = sum(p.size for p in pictures)
    dataset = Dataset.compress(program, folder, scratch / "dataset", model)
    length = code_length(IntegerModel.load(dataset.model_file), planar(pictures))
    coded = [folder / s["name"] for s in dataset.samples if s["mode"] == "flow"]
    latency = [
        decode_milliseconds(program, model, coded[:batch], scratch / f"batch{batch}")
        for batch in BATCHES
        if batch <= len(coded)
    ]
    return Row(
        name,
        analytic=length.analytic / samples,
        coding=bits_per_dimension(dataset.bytes, samples),
        latency=tuple(latency),
        bandwidth=pictures[0].size / 1e3 / latency[-1] if latency else None,
    )


def decode_milliseconds(program, model, files, scratch):
    """Milliseconds per image of verifying a dataset of these images alone, which are one block."""
    folder = scratch / "images"
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).hardlink_to(file)
    dataset = Dataset.compress(program, folder, scratch / "dataset", model)
    return 1e3 * min(dataset.verify() for _ in range(RUNS)) / len(files)


def checkpoint_row(name, shape, file, files):
    """The Row of a float flow."""
    model = load_checkpoint(shape, file)
    pictures = torch.from_numpy(planar([read_rgb(f) for f in files]))
    bits = sum(float_bits(model, part) for part in pictures.split(BATCHES[-1]))
    latency = [
        forward_milliseconds(model, pictures[:batch])
        for batch in BATCHES
        if batch <= len(pictures)
    ]
    return Row(name, bits / pictures.numel(), None, tuple(latency), None)


def load_checkpoint(shape, file):
    """The flow of a checkpoint of the stages float and tune, with the averaged weights."""
    if shape not in SHAPES:
        raise SystemExit(f"no shape {shape}; there are {', '.join(SHAPES)}")
    state = torch.load(file, map_location="cpu", weights_only=False)
    model = flow_like(SHAPES[shape], state["flow"])
    model.load_state_dict(state["flow"])
    with torch.no_grad():
        for parameter, average in zip(model.parameters(), state["average"]):
            parameter.copy_(average)
    return model.to(memory_format=torch.channels_last).eval()


@torch.no_grad()
def float_bits(model, images):
    total = 0.0
    for values, parameters in model.passes(images):
        means, indices = parameters.double().chunk(2, 1)
        indices = indices.clamp(0, flow.SCALE_COUNT - 1)
        total += exact_bits(values.numpy(), means.numpy(), indices.numpy()).sum()
    return total


@torch.no_grad()
def forward_milliseconds(model, images):
    """Milliseconds per image of all networks, after one run that is not counted."""
    seconds = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        for _ in model.passes(images):
            pass
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds[1:]) / len(images)


def layout(rows):
    """The table in Markdown."""
    batches = BATCHES[: max(len(row.latency) for row in rows)]
    heads = [f"ms/image, batch {batch}" for batch in batches]
    cells = [["", "analytic bpd", "coding bpd", *heads, "bandwidth MB/s"]]
    for row in rows:
        latency = [*row.latency, *[None] * (len(batches) - len(row.latency))]
        cells.append([
            row.name, number(row.analytic, 3), number(row.coding, 3),
            *(number(ms, 3) for ms in latency), number(row.bandwidth, 2),
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
            if shape:
                rows.append(checkpoint_row(name or shape, shape, file, files))
            else:
                name = name or model_name(file)
                rows.append(model_row(name, file, options.flowpack, folder, files, scratch))
        text = f"{images.name}, {len(files)} images\n\n{layout(rows)}\n"
        print(text, flush=True)
        if options.out:
            options.out.write_text(text)


if __name__ == "__main__":
    main()
