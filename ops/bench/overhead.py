"""Says where the bytes of a dataset go beyond the analytic code length of its images.

    ops/bench/overhead --data DIR [--only SET,...] [--count N] [--model NAME_OR_FILE] [SET...]

The analytic code length is −log2 of the exact discretised logistic, in float64, with the means
and scales that the integer model computes; padding to whole multiples of 2^levels is coded and
counted. The real bytes are those of a dataset that `flowpack compress` makes. In between lie:

* precision and window: frequencies of 16 bits, for every symbol of the window at least 1;
* escapes: symbols outside the window, 32 bits each;
* corrections and mirrored axes, where the model asks for them (the analytic length is that of mirrored
  images under the corrected means and scales);
* rANS: final states of the lanes, and what states from 2^16 up lose with frequencies of 16 bits;
* headers of the blocks. These five are the overhead of blocks; the rest is that of files:
* the index (copies of the block headers; records of the samples: names, lengths, digests),
  header and footer of each shard, the manifest.

Images that are stored as they are have no analytic length; they are counted, and their blocks are
left out. A SET is NAME=SOURCE, as `ops/bench/sizes` takes it.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from code_length import CodeLength, code_length, mean_corrections, mirrored, scale_corrections
from dataset import Dataset, add_program_option
from imagesets import add_set_options, chosen_sets, dimensions, planar, read_rgb
from shard import BLOCK_HEADER_BYTES, FLOW, FOOTER_BYTES, HEADER_BYTES
from tables import table

from integer import IntegerModel


@dataclass(frozen=True)
class Overhead:
    """The bytes of a dataset by what they are for; stored files are left out."""

    length: CodeLength
    dimensions: int
    images: int
    stored: int
    payloads: int
    sections: int  # at the start of a payload: corrections of scales, mirrored axes
    block_headers: int  # each is in the index again
    records: int
    ends: int
    manifest: int

    def parts(self):
        """(name, bytes) of every part, with two sums: of blocks and of files."""
        length = self.length
        blocks = self.payloads + self.block_headers
        yield "analytic code length", length.analytic / 8
        yield "precision and window", length.precision / 8
        yield f"escapes: {length.escaped:,} of {length.symbols:,} symbols", length.escapes / 8
        yield "corrections, mirrored axes", self.sections
        yield "rANS states and words", self.payloads - self.sections - length.integer / 8
        yield "block headers", self.block_headers
        yield "**blocks**", blocks
        yield "index: copies of block headers", self.block_headers
        yield "index: records of samples", self.records
        yield "shard header and footer", self.ends
        yield "manifest", self.manifest
        yield "**files**", blocks + self.block_headers + self.records + self.ends + self.manifest


def measure(images, model, program):
    """The Overhead of a set under a model."""
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name) / "images", Path(name)
        images.write(folder)
        dataset = Dataset.compress(program, folder, scratch / "dataset", model)
        integer_model = IntegerModel.load(dataset.model_file)
        length, sections = CodeLength(), 0
        for block, names, row in dataset.coded_images():
            pictures = [read_rgb(folder / n)[row : row + block.height] for n in names]
            offsets, begin = scale_corrections(integer_model, block.payload)
            coded, size = mirrored(integer_model, planar(pictures), block.payload[begin:])
            begin += size
            means, size = mean_corrections(integer_model, block.payload[begin:], len(pictures))
            length += code_length(integer_model, coded, offsets, means)
            sections += begin + size
        coded = [folder / s["name"] for s in dataset.samples if s["mode"] == "flow"]
        blocks = [b for shard in dataset.shards for b in shard.blocks if b.kind == FLOW]
        return Overhead(
            length=length,
            dimensions=dimensions(coded),
            images=len(coded),
            stored=len(dataset.samples) - len(coded),
            payloads=sum(len(b.payload) for b in blocks),
            sections=sections,
            block_headers=BLOCK_HEADER_BYTES * len(blocks),
            records=sum(s.record_bytes for s in dataset.shards),
            ends=(HEADER_BYTES + FOOTER_BYTES) * len(dataset.shards),
            manifest=dataset.manifest_bytes,
        )


def report(name, overhead):
    """The parts as a Markdown table: bytes, bits/dim, per cent of the analytic code length."""
    head = f"**{name}**: {overhead.images} images coded, {overhead.stored} stored"
    if not overhead.images:
        return f"{head}\n"
    rows = [["part", "bytes", "bits/dim", "over analytic"]]
    analytic = overhead.length.analytic / 8
    for part, size in overhead.parts():
        total = part.startswith("**")
        share = (size - analytic if total else size) / analytic
        rows.append([
            part, f"{size:,.0f}", f"{8 * size / overhead.dimensions:.5f}",
            "" if part == "analytic code length" else f"{100 * share:.3f} %",
        ])  # fmt: skip
    return f"{head}\n\n{table(rows)}\n"


def main():
    parser = argparse.ArgumentParser(
        prog="ops/bench/overhead", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_set_options(parser)
    add_program_option(parser)
    parser.add_argument("--model", default="fast", metavar="NAME_OR_FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the parts, in bytes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = {}
    for images in chosen_sets(options):
        overhead = measure(images, options.model, options.flowpack)
        measured[images.name] = dict(overhead.parts())
        print(report(images.name, overhead), flush=True)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
