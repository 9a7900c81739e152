"""Compares our convolutions with ONNX Runtime's, oneDNN's and PyTorch's, in one run.

    ops/bench/kernels [--isa ISA,...] [--seconds S] [--flowpack PROGRAM]

Ours are those of `flowpack bench kernels` from activations to activations.

* int8, where there are as many outputs as inputs. ONNX Runtime runs QLinearConv, oneDNN PyTorch's
  quantized::conv2d_relu: u8 activations, s8 weights with a scale for each output channel, u8
  results. Both run chains of 8 equal layers, so that changes of layout at both ends hardly count;
  ours repeats one layer. oneDNN is held to the instruction set that ours takes
  (ONEDNN_MAX_CPU_ISA), and runs once more without a limit; ONNX Runtime takes the best it knows.
  On AVX2 and SSE4.1 theirs multiply with instructions that can saturate, ours are exact.
* float32: PyTorch's convolution of the same shape, in channels-last layout, against ours on the
  best instruction set.

One thread each; rates are of its processor time, and those that one run in twenty exceeds. Where
others disturb the core for longer than that, --rounds measures everything in turns and keeps the best.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dataset import add_program_option
from formats import run
from imagesets import words
from tables import table
from timing import add_rounds_option

# What oneDNN calls our instruction sets.
ONEDNN_LIMITS = {
    "sse41": "SSE41",
    "avx2": "AVX2",
    "avxvnni": "AVX2_VNNI",
    "avx512vnni": "AVX512_CORE_VNNI",
    "amx": "AVX512_CORE_AMX",
}
SHAPE = re.compile(r"(\d)x\1 (\d+)→(\d+) (\d+)×(\d+)×(\d+)")


@dataclass(frozen=True)
class Shape:
    """A convolution: side of the kernel, channels in and out, images of height × width."""

    kernel: int
    inputs: int
    outputs: int
    images: int
    height: int
    width: int

    @classmethod
    def parse(cls, text):
        """The shape that `flowpack bench kernels` names so; None for a layer with more to it."""
        match = SHAPE.fullmatch(text)
        return match and cls(*map(int, match.groups()))

    @property
    def macs(self):
        positions = self.images * self.height * self.width
        return self.kernel**2 * self.inputs * self.outputs * positions


def our_rates(program, sets, seconds):
    """GMAC/s by ("ours", instruction set, shape) and, for its peak, ("peak", instruction set)."""
    command = [program, "bench", "kernels", "--json", "--seconds", seconds]
    command += ["--isa", ",".join(sets)] if sets else []
    rates = {}
    for row in json.loads(run(command)[1])["rows"]:
        if row["share_of_peak"] is not None and Shape.parse(row["shape"]):
            ours = row["gmacs_per_second"]
            rates["peak", row["isa"]] = ours / row["share_of_peak"]
            rates["ours", row["isa"], row["shape"]] = ours
    return rates


def makes_a_chain(text):
    shape = Shape.parse(text)
    return shape.inputs == shape.outputs


def their_rates(library, texts, seconds, limit=None):
    """GMAC/s by (library, limit, shape), measured in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment |= {"ONEDNN_MAX_CPU_ISA": limit} if limit else {}
    program = Path(__file__).with_name(f"kernels_{library}.py")
    result = subprocess.run(
        [sys.executable, program, str(seconds), *texts],
        env=environment, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return {(library, limit, text): r for text, r in zip(texts, json.loads(result.stdout))}


def all_rates(program, sets, seconds):
    """GMAC/s of everything that the tables have, in the order of their lines."""
    rates = our_rates(program, sets, seconds)
    shapes = shapes_of(rates)
    chains = list(filter(makes_a_chain, shapes))
    rates |= their_rates("onnx", chains, seconds)
    for limit in (None, *(ONEDNN_LIMITS[isa] for isa in sets_of(rates))):
        rates |= their_rates("onednn", chains, seconds, limit)
    return rates | their_rates("float32", shapes, seconds)


def sets_of(rates):
    return [key[1] for key in rates if key[0] == "peak"]


def shapes_of(rates):
    return list(dict.fromkeys(key[2] for key in rates if key[0] == "ours"))


def int8_table(rates):
    """The table of the shapes that make a chain."""
    heads = ["ours", "of peak", "oneDNN", "ours/oneDNN", "oneDNN, any", "ONNX Runtime", "ours/ORT"]
    cells = [["int8, GMAC/s", "instruction set", *heads]]
    for isa in sets_of(rates):
        for shape in filter(makes_a_chain, shapes_of(rates)):
            ours, onnx = rates["ours", isa, shape], rates["onnx", None, shape]
            limited = rates["onednn", ONEDNN_LIMITS[isa], shape]
            cells.append([
                shape, isa, f"{ours:.0f}", f"{100 * ours / rates['peak', isa]:.1f} %",
                f"{limited:.0f}", f"{ours / limited:.2f}",
                f"{rates['onednn', None, shape]:.0f}", f"{onnx:.0f}", f"{ours / onnx:.2f}",
            ])  # fmt: skip
    return table(cells)


def float_table(rates):
    """The table of float32 convolutions against the last of our instruction sets."""
    best = sets_of(rates)[-1]
    cells = [["float32", "PyTorch GMAC/s", "ms", f"ours, {best}, GMAC/s", "ms", "ours/float32"]]
    for shape in shapes_of(rates):
        theirs, ours = rates["float32", None, shape], rates["ours", best, shape]
        macs = Shape.parse(shape).macs
        cells.append([
            shape, f"{theirs:.0f}", f"{macs / theirs / 1e6:.3f}",
            f"{ours:.0f}", f"{macs / ours / 1e6:.3f}", f"{ours / theirs:.2f}",
        ])  # fmt: skip
    return table(cells)


def main():
    parser = argparse.ArgumentParser(
        prog="ops/bench/kernels", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--isa", type=words, metavar="ISA,...", help="instruction sets (default: all of this CPU)"
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    add_rounds_option(parser)
    parser.add_argument("--out", type=Path, metavar="TABLE.md", help="write the table there too")
    add_program_option(parser)
    options = parser.parse_args()

    best = {}
    for _ in range(options.rounds):
        rates = all_rates(options.flowpack, options.isa, options.seconds)
        best = {key: max(rate, best.get(key, 0)) for key, rate in rates.items()}
    text = f"{int8_table(best)}\n\n{float_table(best)}"
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
