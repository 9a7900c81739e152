"""Compares models with PNG, WebP lossless and JPEG XL on the same images, in one run.

    ops/bench/sizes --data DIR [--only SET,...] [--model NAME_OR_FILE]... [NAME=SOURCE...]

The sets are those of DIR/valid (photos64, cifar, kodak, cid22, gb82, screens) and any others:
SOURCE is a folder of PNG files, or FILE.png:SIDE[:COUNT], a strip of SIDE×SIDE images one below
the other, which is cut into PNG files first. With every model Flowpack compresses, verifies and
extracts the set, and every extracted image is compared with its source, pixel by pixel.

Sizes are whole files, for everyone. For Flowpack: all shards and the manifest; not the model,
which the whole dataset shares and which does not grow with it. For the others: one file for each
image, with its container. What of this codes pixels is the payload: IDAT data, VP8L chunk,
JPEG XL codestream; of shards the blocks, without their headers, the index and the manifest. On
small images the difference matters; it is shown beside the whole files, never in their place. An
image that is smaller as its source file is stored so by Flowpack, and counted.

bits/dim = 8 · bytes / (3 · width · height). Speed is 10^6 bytes of 8-bit RGB per second of wall
clock on one thread. cwebp and cjxl start once for each image: on small images their speed is
that of a start.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset import FlowResult, add_models_option, add_program_option, measure, model_name
from formats import JXL_EFFORTS, jxl_label, references, versions
from imagesets import add_set_options, bits_per_dimension, chosen_sets, dimensions, numbers
from tables import table


def arguments():
    parser = argparse.ArgumentParser(
        prog="ops/bench/sizes", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_set_options(parser)
    add_models_option(parser)
    parser.add_argument(
        "--efforts", type=numbers, default=JXL_EFFORTS, metavar="E,...",
        help="of JPEG XL (default: 3,7,9); 9 is slow",
    )  # fmt: skip
    parser.add_argument("--models-only", action="store_true", help="without the other formats")
    add_program_option(parser)
    parser.add_argument("--out", type=Path, metavar="TABLE.md", help="write the tables there too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw the sizes")
    return parser.parse_args()


@dataclass(frozen=True)
class SetSizes:
    """What a set of images takes in every format."""

    name: str
    images: int
    dimensions: int
    results: list

    def bits(self, result):
        """Bits per dimension of whole files."""
        return bits_per_dimension(result.bytes, self.dimensions)


def measure_set(images, models, efforts, program):
    """The SetSizes of a set; without efforts of JPEG XL only the models are measured."""
    with tempfile.TemporaryDirectory() as name:
        folder, scratch = Path(name) / "images", Path(name)
        files = images.write(folder)
        results = list(references(files, scratch, efforts)) if efforts else []
        results += [measure(program, model, folder, files, scratch) for model in models]
        return SetSizes(images.name, len(files), dimensions(files), results)


def overview(measured):
    """Bits per dimension of whole files: a row for each format, a column for each set."""
    rows = [["bits/dim, whole files", *(f"{m.name} ({m.images})" for m in measured)]]
    for number, result in enumerate(measured[0].results):
        rows.append([result.label, *(f"{m.bits(m.results[number]):.3f}" for m in measured)])
    return table(rows)


def details(measured, best):
    """All columns of one set; `best` is the label that the others are compared with."""
    yardstick = next((r.bytes for r in measured.results if r.label == best), None)
    against = [f"against {best}"] if yardstick else []
    rows = [
        ["format", "bytes", "bits/dim", *against, "bytes/image", "payload/image", "encode MB/s"]
    ]
    megabytes = measured.dimensions / 1e6
    for r in measured.results:
        change = [f"{100 * (r.bytes / yardstick - 1):+.2f} %"] if yardstick else []
        rows.append([
            r.label, f"{r.bytes:,}", f"{measured.bits(r):.3f}", *change,
            f"{r.bytes / measured.images:,.1f}", f"{r.payload_bytes / measured.images:,.1f}",
            f"{megabytes / r.seconds:.2f}" if r.seconds else "",
        ])  # fmt: skip
    head = f"**{measured.name}**: {measured.images} images, {megabytes:.2f} MB of pixels"
    flows = [flow_line(r, measured) for r in measured.results if isinstance(r, FlowResult)]
    return "\n".join([f"{head}, all equal after extract", "", table(rows), "", *flows])


def flow_line(result, measured):
    """What the table of a set does not say of a model."""
    if result.stored == measured.images:
        return f"{result.label}: all images stored as they are, since that is smaller.\n"
    verify, extract = (
        f"{measured.dimensions / 1e6 / seconds:.2f}"
        for seconds in (result.verify_seconds, result.extract_seconds)
    )
    return (
        f"{result.label}: encode with verification; verify {verify}, extract {extract} MB/s; "
        f"{result.stored} images stored as they are; model file {result.model_bytes:,} bytes.\n"
    )


def as_json(measured, tools):
    return json.dumps({"tools": tools, "sets": [asdict(m) for m in measured]}, indent=1) + "\n"


def plot(measured, path):
    """Draws bits/dim of every format as grouped bars, one group for each set."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    results = measured[0].results
    flows = sum(isinstance(r, FlowResult) for r in results)
    others = len(results) - flows
    colours = [pyplot.colormaps["Greys"](0.2 + 0.55 * n / others) for n in range(others)]
    colours += [pyplot.colormaps["OrRd"](0.85 - 0.5 * n / flows) for n in range(flows)]
    width = 0.86 / len(results)
    figure, axes = pyplot.subplots(figsize=(1.2 + 1.7 * len(measured), 3.4))
    for number, (result, colour) in enumerate(zip(results, colours)):
        places = [group + number * width for group in range(len(measured))]
        values = [m.bits(m.results[number]) for m in measured]
        bars = axes.bar(places, values, width * 0.94, label=result.label, color=colour)
        axes.bar_label(bars, fmt=" %.2f", fontsize=6.5, rotation=90)
    middle = 0.43 - width / 2
    axes.set_xticks([group + middle for group in range(len(measured))], [m.name for m in measured])
    axes.set_ylabel("bits per dimension (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.15 * axes.dataLim.y1)
    axes.margins(x=0.01)
    columns = 1 + len(measured)
    figure.legend(ncols=columns, fontsize=7.5, frameon=False, loc="upper center")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.06 * -(-len(results) // columns)))
    figure.savefig(path)
    pyplot.close(figure)


def main():
    options = arguments()
    models = options.model or ["fast"]
    if len({model_name(m) for m in models}) < len(models):
        sys.exit("two of the models have the same name")
    best = jxl_label(max(options.efforts))
    chosen = () if options.models_only else options.efforts
    tools = versions() if chosen else {}

    measured, sections = [], []
    for images in chosen_sets(options):
        measured.append(measure_set(images, models, chosen, options.flowpack))
        sections.append(details(measured[-1], best))
        print(sections[-1], flush=True)
        text = "\n".join([overview(measured), "", *sections])
        if options.out:
            options.out.write_text(text)
        if options.json:
            options.json.write_text(as_json(measured, tools))
    print(overview(measured))
    if options.plot:
        plot(measured, options.plot)


if __name__ == "__main__":
    main()
