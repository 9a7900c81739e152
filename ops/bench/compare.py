#!/usr/bin/env python3
"""Compares Flowpack with PNG, WebP lossless and JPEG XL on the same images, in one run.

    ops/bench/compare.py --flowpack PATH [--out TABLE.md] [--plot SIZES.svg] NAME=SOURCE...

SOURCE is a folder of PNG files, or `FILE.png:SIDE[:COUNT]`: a strip that holds many SIDE×SIDE images side by side, which is
cut into PNG files first. For every set Flowpack compresses, verifies and extracts the folder, and every
extracted image is compared with its source, pixel by pixel.

Sizes are whole files: for Flowpack all shards and the manifest (the model file, shared by the whole
dataset, has its own column). bits/dim = 8 · bytes / (3 · width · height). Encoding speed is megabytes of
pixels (10^6 bytes of 8-bit RGB) per second of wall clock with one thread; cwebp and cjxl are started once
for each image, so on small images their speed is that of starting a process. PNG files are taken as they are.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def cut_strip(strip: Path, side: int, count: int | None, folder: Path) -> None:
    """Writes each image of a strip as an optimised PNG file."""
    tiles = np.asarray(Image.open(strip).convert("RGB")).reshape(-1, side, side, 3)
    for index, tile in enumerate(tiles[:count]):
        Image.fromarray(tile).save(folder / f"{index:05d}.png", optimize=True)


def prepare(source: str, scratch: Path) -> Path:
    """The folder of PNG files that SOURCE stands for."""
    path, *numbers = source.split(":")
    if not numbers:
        return Path(path).resolve()
    folder = scratch / "tiles"
    folder.mkdir()
    cut_strip(Path(path), int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else None, folder)
    return folder


def run(command: list) -> tuple[float, str]:
    """Seconds of wall clock and the standard output of a command that must succeed."""
    start = time.perf_counter()
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {result.returncode}:\n{result.stderr}")
    return time.perf_counter() - start, result.stdout


def encode_each(files: list[Path], command, output: Path) -> tuple[int, float]:
    """Total bytes and seconds of one encoder process for each file."""
    total, seconds = 0, 0.0
    for file in files:
        elapsed, _ = run(command(file, output))
        seconds += elapsed
        total += output.stat().st_size
    return total, seconds


def flowpack_rows(program: Path, folder: Path, files: list[Path], scratch: Path, extra: list):
    """Bytes, model bytes and seconds of compress, verify and extract; exits when a pixel differs."""
    dataset, restored = scratch / "dataset", scratch / "restored"
    one = ["--threads", "1", "--progress", "none"]
    encode, summary = run([program, "compress", folder, "-o", dataset, "--json", *one, *extra])
    verify, _ = run([program, "verify", dataset])
    extract, _ = run([program, "extract", dataset, "-o", restored])
    for file in files:
        theirs = np.asarray(Image.open(file).convert("RGB"))
        ours = np.asarray(Image.open(restored / file.relative_to(folder)).convert("RGB"))
        if not np.array_equal(theirs, ours):
            sys.exit(f"{file}: the extracted pixels differ")
    model = sum(f.stat().st_size for f in dataset.glob("model-*.safetensors"))
    total = sum(f.stat().st_size for f in dataset.rglob("*") if f.is_file()) - model
    return total, model, encode, verify, extract, json.loads(summary)


def plot(sizes: dict[str, dict[str, float]], path: Path) -> None:
    """Draws bits/dim of every format as grouped bars, one group for each set of images."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.2))
    formats = list(next(iter(sizes.values())))
    colours = ["#c9ced6", "#a3acb9", "#7f8b9c", "#5f6c80", "#d9481c"]
    width = 0.8 / len(formats)
    for index, (label, colour) in enumerate(zip(formats, colours)):
        places = [group + index * width for group in range(len(sizes))]
        values = [row[label] for row in sizes.values()]
        bars = axes.bar(places, values, width * 0.94, label=label, color=colour)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.set_xticks([group + 0.4 - width / 2 for group in range(len(sizes))], list(sizes))
    axes.set_ylabel("bits per dimension (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.22 * max(max(row.values()) for row in sizes.values()))
    axes.legend(ncols=len(formats), fontsize=7.5, frameon=False, loc="upper center")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--flowpack", type=Path, required=True, help="the flowpack program")
    parser.add_argument("--model", help="profile or file for flowpack compress --model")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--plot", type=Path, help="draw the sizes as an SVG file")
    parser.add_argument("sets", nargs="+", metavar="NAME=SOURCE")
    arguments = parser.parse_args()
    extra = ["--model", arguments.model] if arguments.model else []

    lines, sizes = [], {}
    for item in arguments.sets:
        name, _, source = item.partition("=")
        with tempfile.TemporaryDirectory() as scratch_name:
            scratch = Path(scratch_name)
            folder = prepare(source, scratch)
            files = sorted(folder.rglob("*.png"))
            dimensions = 0
            for file in files:
                with Image.open(file) as image:
                    dimensions += 3 * image.width * image.height
            rows = [("PNG", sum(f.stat().st_size for f in files), None)]
            encoded = scratch / "encoded"
            total, seconds = encode_each(
                files, lambda f, o: ["cwebp", "-quiet", "-lossless", "-z", "9", f, "-o", o], encoded)
            rows.append(("WebP lossless -z 9", total, seconds))
            for effort in (3, 7):
                total, seconds = encode_each(
                    files,
                    lambda f, o: ["cjxl", "--quiet", "-d", "0", "-e", effort, "--num_threads=0", f, o],
                    scratch / "encoded.jxl")
                rows.append((f"JPEG XL -e {effort}", total, seconds))
            total, model, encode, verify, extract, summary = flowpack_rows(
                arguments.flowpack, folder, files, scratch, extra)
            rows.append((f"Flowpack {arguments.model or 'fast'}", total, encode))

            lines += [
                f"**{name}**: {len(files)} images, {dimensions / 1e6:.2f} MB of pixels, "
                f"all {len(files)} equal after extract", "",
                "| format | bytes | bits/dim | of WebP | encode MB/s |", "|---|--:|--:|--:|--:|"]
            webp = rows[1][1]
            sizes[name] = {label: 8 * size / dimensions for label, size, _ in rows}
            for label, size, seconds in rows:
                speed = f"{dimensions / 1e6 / seconds:.2f}" if seconds else ""
                lines.append(
                    f"| {label} | {size:,} | {8 * size / dimensions:.3f} | {size / webp:.3f} | {speed} |")
            lines += [
                "", f"Flowpack, one thread, verification included in encode: "
                f"encode {dimensions / 1e6 / encode:.2f}, verify {dimensions / 1e6 / verify:.2f}, "
                f"extract {dimensions / 1e6 / extract:.2f} MB/s; model file {model:,} bytes.", ""]
            print("\n".join(lines[-(len(rows) + 6):]), flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines))
    if arguments.plot:
        plot(sizes, arguments.plot)


if __name__ == "__main__":
    main()
