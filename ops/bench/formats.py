"""Size and speed of the formats that Flowpack is compared with, one encoder process for each image.

Every file counts whole. Its payload is what codes the pixels alone: the IDAT data of PNG, the VP8L
chunk of WebP, the codestream of JPEG XL (of which cjxl writes nothing else).
"""

import io
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

JXL_EFFORTS = (3, 7, 9)


@dataclass(frozen=True)
class Result:
    """What a set of images takes in one format; `seconds` of encoding, None if not timed."""

    label: str
    bytes: int
    payload_bytes: int
    seconds: float | None = None


def run(command):
    """Seconds of wall clock and the standard output of a command that must succeed."""
    start = time.perf_counter()
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {result.returncode}:\n{result.stderr}")
    return time.perf_counter() - start, result.stdout


def references(files, scratch, efforts=JXL_EFFORTS):
    """Yields the Result of every format."""
    yield png(files)
    yield encoded(
        "WebP lossless -z 9", files, webp_payload, scratch / "image.webp",
        lambda file, output: ["cwebp", "-quiet", "-lossless", "-z", "9", file, "-o", output],
    )
    for effort in efforts:
        yield encoded(
            jxl_label(effort), files, jxl_payload, scratch / "image.jxl",
            lambda file, output: [
                "cjxl", "--quiet", "-d", "0", "-e", effort, "--num_threads=0", file, output,
            ],
        )  # fmt: skip


def jxl_label(effort):
    return f"JPEG XL -e {effort}"


def png(files):
    """Of each image the smaller of its source file and what Pillow's optimising writer makes."""
    smallest = [min(file.read_bytes(), optimised_png(file), key=len) for file in files]
    return Result("PNG optimised", sum(map(len, smallest)), sum(map(png_payload, smallest)))


def optimised_png(file):
    output = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").save(output, "PNG", optimize=True)
    return output.getvalue()


def encoded(label, files, payload, output, command):
    """The Result of an encoder that is started with `command(file, output)`."""
    total, payload_total, seconds = 0, 0, 0.0
    for file in files:
        elapsed, _ = run(command(file, output))
        seconds += elapsed
        data = Path(output).read_bytes()
        total += len(data)
        payload_total += payload(data)
    return Result(label, total, payload_total, seconds)


def png_payload(data):
    """Bytes of the IDAT chunks' data."""
    total, offset = 0, 8
    while offset < len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        total += length if kind == b"IDAT" else 0
        offset += 12 + length
    return total


def webp_payload(data):
    """Bytes of the VP8L chunk's data."""
    offset = 12
    while offset < len(data):
        kind, length = struct.unpack_from("<4sI", data, offset)
        if kind == b"VP8L":
            return length
        offset += 8 + length + length % 2
    raise ValueError("no lossless WebP file")


def jxl_payload(data):
    """Bytes of a bare codestream."""
    if data[:2] != b"\xff\x0a":
        raise ValueError("no bare JPEG XL codestream")
    return len(data)


def versions():
    """The versions of the encoders, as they print them."""
    return {
        "cwebp": run(["cwebp", "-version"])[1].split()[0],
        "cjxl": run(["cjxl", "--version"])[1].split()[1],
        "Pillow": Image.__version__,
    }
