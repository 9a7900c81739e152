"""The sets of images that the tools of this folder measure.

A set is a folder of PNG files, or a strip: one PNG file with square images one below the other.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# The sets below DATA/valid, each with its source as `ImageSet.parse` takes it.
VALID_SETS = {
    "photos64": "photos64_strip_300.png:64",
    "cifar": "cifar10_test_strip_381.png:32",
    "kodak": "kodak",
    "cid22": "cid22_512",
    "gb82": "gb82",
    "screens": "screens",
}


@dataclass(frozen=True)
class ImageSet:
    """Where the images of a set are: a strip if it has a side, in pixels, else a folder."""

    name: str
    source: Path
    side: int | None = None
    count: int | None = None  # only the first of them

    @classmethod
    def parse(cls, name, source, count=None):
        """A set from `FOLDER` or `FILE.png:SIDE[:COUNT]`; of two counts the smaller holds."""
        path, *numbers = str(source).split(":")
        if len(numbers) > 2 or not all(n.isdigit() and int(n) > 0 for n in numbers):
            raise ValueError(f"{source} is neither FOLDER nor FILE.png:SIDE[:COUNT]")
        side = int(numbers[0]) if numbers else None
        counts = [n for n in (*map(int, numbers[1:]), count) if n is not None]
        return cls(name, Path(path), side, min(counts, default=None))

    def write(self, folder):
        """Writes the images into a new folder as PNG files; the files, in the set's order."""
        folder.mkdir(parents=True)
        files = self._write_strip(folder) if self.side else self._copy(folder)
        if not files:
            raise ValueError(f"{self.source} holds no PNG files")
        return files

    def _write_strip(self, folder):
        tiles = strip_tiles(read_rgb(self.source), self.side)[: self.count]
        files = [folder / f"{number:05d}.png" for number in range(len(tiles))]
        for tile, file in zip(tiles, files):
            Image.fromarray(tile).save(file, optimize=True)
        return files

    def _copy(self, folder):
        names = sorted(f.relative_to(self.source) for f in self.source.rglob("*.png"))[: self.count]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source / name, folder / name)
        return [folder / name for name in names]


def add_set_options(parser):
    """The options that `chosen_sets` reads."""
    parser.add_argument("--data", help="folder that holds valid/; without it only NAME=SOURCE")
    parser.add_argument("--only", type=words, metavar="SET,...", help="of the sets of --data these")
    parser.add_argument("--count", type=int, help="the first COUNT images of every set")
    parser.add_argument("sets", nargs="*", metavar="NAME=SOURCE")


def words(text):
    return text.split(",")


def numbers(text):
    return tuple(map(int, words(text)))


def chosen_sets(options):
    """The sets that a command line asks for; exits with a message where it makes no sense."""
    try:
        sets = valid_sets(options.data, options.only, options.count) if options.data else []
        for item in options.sets:
            name, _, source = item.rpartition("=")
            sets.append(ImageSet.parse(name or source, source, options.count))
    except ValueError as error:
        sys.exit(str(error))
    return sets or sys.exit("no sets: give --data or NAME=SOURCE")


def valid_sets(data, only=None, count=None):
    """The sets of a data folder, all or those named."""
    unknown = set(only or ()) - set(VALID_SETS)
    if unknown:
        raise ValueError(f"no set {', '.join(sorted(unknown))}; there are {', '.join(VALID_SETS)}")
    return [
        ImageSet.parse(name, Path(data) / "valid" / source, count)
        for name, source in VALID_SETS.items()
        if not only or name in only
    ]


def read_rgb(path):
    """The file's pixels, u8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def planar(pictures):
    """Pictures of one size, u8 [H, W, 3], as u8 [N, 3, H, W]."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def strip_tiles(pixels, side):
    """The images of a strip, u8 [N, side, side, 3]."""
    height, width, _ = pixels.shape
    if width != side or height % side:
        raise ValueError(f"a picture of {width}×{height} is no strip of {side}×{side} images")
    return pixels.reshape(-1, side, side, 3)


def dimensions(files):
    """Samples of the images as RGB: 3 · width · height, summed."""
    total = 0
    for file in files:
        with Image.open(file) as image:
            total += 3 * image.width * image.height
    return total


def bits_per_dimension(size, dimensions):
    """Bits of `size` bytes for each of so many samples."""
    return 8 * size / dimensions
