"""Compares size and speed with PNG, WebP lossless and JPEG XL on the same images, in one run.

    ops/bench/speed --data DIR [--only SET,...] [--model NAME_OR_FILE]... [NAME=SOURCE...]

The sets are those of ops/bench/sizes. Every program reads its images as PPM files and writes PPM
files when it decodes, so that no time goes to another format; every pixel that comes back is
compared. Flowpack packs a set into one dataset; its compress decodes and compares everything it
wrote, its extract checks every digest. The others are started once for each image.

Speed is 10^6 bytes of 8-bit RGB per second of processor time, of all threads of a process, user
and system; every program computes on one thread. Waiting for the disk or for another process does
not count, nor does the start: with each image the same command also runs on an image of one
pixel, and that time is subtracted; of Flowpack, that of a dataset of one such image. Where the
standard error of what is left exceeds a fifth of it, nothing is said. PNG is decoded by Pillow, in
the process that measures. Where others disturb the core, --rounds measures everything in turns; each
command's least time counts.

bits/dim = 8 · bytes / (3 · width · height), whole files, everything counted but Flowpack's model.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dataset import ONE_THREAD, Dataset, add_models_option, add_program_option, model_name
from formats import jxl_label, run, versions
from imagesets import (
    add_set_options, bits_per_dimension, chosen_sets, dimensions, numbers, read_rgb,
)  # fmt: skip
from tables import table
from timing import add_rounds_option

EFFORTS = (1, 3, 7, 9)
FAMILIES = {  # labels begin with these
    "PNG": "tab:gray",
    "WebP lossless": "tab:green",
    "JPEG XL": "tab:blue",
    "Flowpack": "tab:red",
}
LARGEST_ERROR = 0.2  # of a time without starts: its standard error, of what is left


@dataclass(frozen=True)
class Speed:
    """A set of images in one format; seconds of processor time without starts, None: not told."""

    label: str
    bytes: int
    encode_seconds: float | None
    decode_seconds: float | None


@dataclass(frozen=True)
class SetSpeeds:
    """What was measured of a set of images."""

    name: str
    images: int
    dimensions: int
    speeds: list

    def bits(self, speed):
        return bits_per_dimension(speed.bytes, self.dimensions)

    def rate(self, seconds):
        """10^6 bytes of pixels per second."""
        return None if seconds is None else self.dimensions / 1e6 / seconds


@dataclass(frozen=True)
class Tool:
    """Programs that code one image: from a PPM file, and back to one."""

    label: str
    suffix: str
    encode: tuple  # the command, with "SOURCE" and "TARGET" in the places of the files
    decode: tuple | None  # None: by Pillow


def tools(efforts):
    """The formats other than Flowpack's."""
    yield Tool("PNG optipng", ".png", ("optipng", "-quiet", "-out", "TARGET", "SOURCE"), None)
    for level in (6, 9):
        yield Tool(
            f"WebP lossless -z {level}", ".webp",
            ("cwebp", "-quiet", "-lossless", "-z", level, "SOURCE", "-o", "TARGET"),
            ("dwebp", "-quiet", "SOURCE", "-ppm", "-o", "TARGET"),
        )  # fmt: skip
    for effort in efforts:
        yield Tool(
            jxl_label(effort), ".jxl",
            ("cjxl", "--quiet", "-d", "0", "-e", effort, "--num_threads=0", "SOURCE", "TARGET"),
            ("djxl", "--quiet", "--num_threads=0", "SOURCE", "TARGET"),
        )  # fmt: skip


def measure_tool(tool, files, pixel, scratch, rounds):
    """The Speed of a tool; `pixel` is the image that tells what a start takes."""
    coded = scratch / f"coded{tool.suffix}"
    coded_pixel = scratch / f"pixel{tool.suffix}"
    restored = scratch / "restored.ppm"
    sizes, encoding, decoding = {}, Timer(), Timer()
    for file in files * rounds:
        encoding.measure(
            file,
            lambda: convert(tool.encode, file, coded),
            start=lambda: convert(tool.encode, pixel, coded_pixel),
        )
        sizes[file] = coded.stat().st_size
        if tool.decode:
            decoding.measure(
                file,
                lambda: convert(tool.decode, coded, restored),
                start=lambda: convert(tool.decode, coded_pixel, scratch / "pixel.ppm"),
            )
            check(file, restored)
        else:
            decoding.measure(file, lambda: read_rgb(coded), start=lambda: None)
            check(file, coded)
    return Speed(tool.label, sum(sizes.values()), encoding.seconds, decoding.seconds)


def convert(command, source, target):
    target.unlink(missing_ok=True)  # optipng would keep a copy of it
    run([{"SOURCE": source, "TARGET": target}.get(word, word) for word in command])


def measure_flowpack(program, model, folder, files, pixel, scratch, rounds):
    """The Speed of a model on a folder of files."""
    alone = scratch / "alone"
    alone.mkdir()
    shutil.copyfile(pixel, alone / pixel.name)
    datasets, encoding, decoding = [], Timer(), Timer()

    def compress(source, name):
        datasets.append(Dataset.compress(program, source, scratch / name, model))

    def extract(name):
        target = scratch / f"{name}-restored"
        run([program, "extract", scratch / name, "-o", target, *ONE_THREAD])

    for turn in range(rounds):
        dataset, single = f"dataset-{turn}", f"pixel-{turn}"
        encoding.measure(
            folder, lambda: compress(folder, dataset), start=lambda: compress(alone, single)
        )
        decoding.measure(folder, lambda: extract(dataset), start=lambda: extract(single))
        for file in files:
            check(file, scratch / f"{dataset}-restored" / file.relative_to(folder))
    return Speed(
        f"Flowpack {model_name(model)}", datasets[0].bytes, encoding.seconds, decoding.seconds
    )


def check(source, restored):
    if not np.array_equal(read_rgb(source), read_rgb(restored)):
        raise SystemExit(f"{restored}: the pixels of {source} did not come back")


class Timer:
    """Sums the processor time of this process and its children, without what starts take."""

    def __init__(self):
        self.works, self.starts = {}, {}  # the least seconds of each name

    def measure(self, name, work, start):
        for least, action in ((self.works, work), (self.starts, start)):
            least[name] = min(processor_seconds(action), least.get(name, float("inf")))

    @property
    def seconds(self):
        """None where the starts leave too little to tell."""
        differences = [self.works[name] - self.starts[name] for name in self.works]
        total, count = sum(differences), len(differences)
        error = statistics.stdev(differences) * count**0.5 if count > 1 else 0.0
        return total if total > 0 and error <= LARGEST_ERROR * total else None


def processor_seconds(work):
    before = consumed_seconds()
    work()
    return consumed_seconds() - before


def consumed_seconds():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure_set(images, models, efforts, program, rounds):
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder, pixel = scratch / "images", scratch / "pixel-source.ppm"
        files = as_ppm(images.write(scratch / "png"), scratch / "png", folder)
        Image.new("RGB", (1, 1)).save(pixel)
        speeds = [measure_tool(tool, files, pixel, scratch, rounds) for tool in tools(efforts)]
        for model in models:
            with tempfile.TemporaryDirectory(dir=scratch) as own:
                speeds.append(
                    measure_flowpack(program, model, folder, files, pixel, Path(own), rounds)
                )
        return SetSpeeds(images.name, len(files), dimensions(files), speeds)


def as_ppm(files, source, folder):
    """Writes the images of a folder into another one as PPM files; the files, in their order."""
    written = []
    for file in files:
        target = (folder / file.relative_to(source)).with_suffix(".ppm")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(read_rgb(file)).save(target)
        written.append(target)
    return written


def report(measured):
    """The table of a set."""
    rows = [["format", "bits/dim", "encode MB/s", "decode MB/s"]]
    for speed in measured.speeds:
        rows.append([
            speed.label, f"{measured.bits(speed):.3f}",
            rate_text(measured.rate(speed.encode_seconds)),
            rate_text(measured.rate(speed.decode_seconds)),
        ])  # fmt: skip
    megabytes = measured.dimensions / 1e6
    head = f"**{measured.name}**: {measured.images} images, {megabytes:.2f} MB of pixels"
    return "\n".join([head, "", table(rows), ""])


def rate_text(rate):
    """Three digits; a rate that could not be told is a dash."""
    if rate is None:
        return "–"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def as_json(measured):
    tools = {**versions(), "optipng": run(["optipng", "--version"])[1].split()[2]}
    return json.dumps({"tools": tools, "sets": [asdict(m) for m in measured]}, indent=1) + "\n"


def plot(measured, path):
    """Draws size against speed: a row for encoding and one for decoding, a column for each set."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    columns = len(measured)
    figure, axes = pyplot.subplots(
        2, columns, figsize=(1 + 3.6 * columns, 6), sharex="row", sharey="col", squeeze=False
    )
    for column, speeds in enumerate(measured):
        for row, way in enumerate(("encode", "decode")):
            draw(axes[row, column], speeds, way)
        axes[0, column].set_title(f"{speeds.name}, {speeds.images} images", fontsize=9)
    for row, way in enumerate(("encode", "decode")):
        axes[row, 0].set_ylabel("bits per dimension", fontsize=8)
        for cell in axes[row]:
            cell.set_xlabel(f"{way}: MB of pixels per second of one core", fontsize=8)
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def draw(axes, measured, way):
    """One panel; formats of one family have a colour and are joined by a line."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log", subs=())
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    for family, colour in FAMILIES.items():
        points = [
            (measured.rate(getattr(s, f"{way}_seconds")), measured.bits(s), s.label)
            for s in measured.speeds
            if s.label.startswith(family) and getattr(s, f"{way}_seconds") is not None
        ]
        rates, bits = [p[0] for p in points], [p[1] for p in points]
        axes.plot(rates, bits, "o-", color=colour, lw=0.8, ms=4, label=family)
        for number, (x, y, label) in enumerate(points):
            place = (0, 5 if number % 2 else -11)  # above and below in turn
            axes.annotate(
                label.removeprefix(family).strip(), (x, y), place, textcoords="offset points",
                fontsize=7, color=colour, ha="center",
            )  # fmt: skip
    axes.margins(x=0.15, y=0.15)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def arguments():
    parser = argparse.ArgumentParser(
        prog="ops/bench/speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_set_options(parser)
    add_models_option(parser)
    parser.add_argument(
        "--efforts", type=numbers, default=EFFORTS, metavar="E,...",
        help="of JPEG XL (default: 1,3,7,9); 9 is slow",
    )  # fmt: skip
    add_rounds_option(parser)
    add_program_option(parser)
    parser.add_argument("--out", type=Path, metavar="TABLE.md", help="write the tables there too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw size against speed")
    return parser.parse_args()


def main():
    options = arguments()
    measured = []
    for images in chosen_sets(options):
        models = options.model or ["fast"]
        measured.append(
            measure_set(images, models, options.efforts, options.flowpack, options.rounds)
        )
        print(report(measured[-1]), flush=True)
        if options.out:
            options.out.write_text("\n".join(map(report, measured)))
        if options.json:
            options.json.write_text(as_json(measured))
    if options.plot:
        plot(measured, options.plot)


if __name__ == "__main__":
    main()
