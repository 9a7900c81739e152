"""Photographs as training crops and as evaluation sets."""

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# The licence-clean folders of the training data; `research-only` is never read.
TRAINING_FOLDERS = ("cid22_512", "clic_full", "clic_half")

# Box reductions of the sources and how often a crop is drawn from each.
REDUCTIONS = {1: 0.30, 2: 0.20, 3: 0.14, 4: 0.16, 6: 0.11, 8: 0.09}

SMALLEST_SIDE = 32  # pixels; smaller sources are left out, unless all crops are smaller
GREY_SHARE = 0.03  # of the crops, so that grey images cost next to nothing in colour
TRANSPOSED_SHARE = 0.3

# Tiles of the Kodak photographs used while training: every 12th, to keep an evaluation short.
KODAK_TILE_STRIDE = 12


def read_rgb(path):
    """The file's pixels, u8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def box_reduce(image, factor, dy=0, dx=0):
    """Means of factor × factor pixels from offset (dy, dx), u8 [H/factor, W/factor, 3]."""
    if factor == 1:
        return image
    height, width = (image.shape[0] - dy) // factor, (image.shape[1] - dx) // factor
    cut = image[dy : dy + height * factor, dx : dx + width * factor]
    rows = cut.reshape(height, factor, width * 3 * factor).sum(1, dtype=np.uint32)
    sums = rows.reshape(height, width, factor, 3).sum(2)
    return ((sums + factor * factor // 2) // (factor * factor)).astype(np.uint8)


class Sources:
    """The images that hold a crop of some size, and how often each is drawn."""

    def __init__(self, rows, reductions):
        """`rows` are (factor, offset, height, width) of each image; the area decides inside one."""
        self.factors, self.offsets, self.heights, self.widths = np.array(rows, np.int64).T
        areas = (self.heights * self.widths).astype(float)
        weights = np.zeros(len(rows))
        for factor, weight in reductions.items():
            chosen = self.factors == factor
            weights[chosen] = weight * areas[chosen] / areas[chosen].sum()
        self.ends = np.cumsum(weights) / weights.sum()

    def draw(self, count, generator):
        """Indices of images, [count]."""
        drawn = np.searchsorted(self.ends, generator.random(count), "right")
        return np.minimum(drawn, len(self.ends) - 1)


class CropSampler:
    """Random square crops of images at several scales, flipped, transposed, some made grey.

    The sources of one reduction are kept in all phases of half a box, so that the crops differ in
    more than their position. All pixels lie on `device`, and crops are cut there. A crop comes
    from the images that hold one: images smaller than `largest_crop` serve the smaller crops.
    """

    def __init__(
        self, images, largest_crop, reductions=REDUCTIONS, grey=GREY_SHARE, device="cpu"
    ):
        self.reductions, self.grey, self.device = reductions, grey, torch.device(device)
        self.rows, self.sources, end = [], {}, 0
        reduced = []  # (image, factor, dy, dx) of each row
        for factor in reductions:
            half = factor // 2
            phases = [(0, 0)] if half == 0 else [(0, 0), (0, half), (half, 0), (half, half)]
            for image, (dy, dx) in itertools.product(images, phases):
                height, width = (image.shape[0] - dy) // factor, (image.shape[1] - dx) // factor
                if min(height, width) >= min(SMALLEST_SIDE, largest_crop):
                    self.rows.append((factor, end, height, width))
                    reduced.append((image, factor, dy, dx))
                    end += height * width
        self.sources_of(largest_crop)  # raises if there are none
        self.pixels = torch.empty(end, 3, dtype=torch.uint8, device=self.device)
        for (_, begin, height, width), source in zip(self.rows, reduced):
            part = torch.tensor(box_reduce(*source).reshape(-1, 3))
            self.pixels[begin : begin + height * width] = part

    def sources_of(self, crop):
        """The `Sources` of crops of a side; raises ValueError when there are none."""
        if crop not in self.sources:
            rows = [r for r in self.rows if min(r[2:]) >= crop]
            if not rows:
                raise ValueError(f"no source holds a crop of {crop} pixels")
            self.sources[crop] = Sources(rows, self.reductions)
        return self.sources[crop]

    def crops(self, count, crop, generator):
        """Crops u8 [count, 3, crop, crop] on the device; draws only from `generator`."""
        sources = self.sources_of(crop)
        drawn = sources.draw(count, generator)
        y = generator.integers(sources.heights[drawn] - crop + 1)
        x = generator.integers(sources.widths[drawn] - crop + 1)
        flip_y, flip_x, transposed, grey = (
            generator.random((4, count)) < [[0.5], [0.5], [TRANSPOSED_SHARE], [self.grey]]
        )
        # The pixel in row i, column j of a crop is number start + i · down + j · right.
        width = sources.widths[drawn]
        start = sources.offsets[drawn] + (y + flip_y * (crop - 1)) * width + x + flip_x * (crop - 1)
        down, right = np.where(flip_y, -width, width), np.where(flip_x, -1, 1)
        down, right = np.where(transposed, right, down), np.where(transposed, down, right)
        start, down, right = torch.from_numpy(np.stack([start, down, right])).to(self.device)
        steps = torch.arange(crop, device=self.device)
        index = (start[:, None] + down[:, None] * steps)[:, :, None]
        index = index + (right[:, None] * steps)[:, None]
        result = self.pixels[index].permute(0, 3, 1, 2).contiguous()
        made_grey = torch.from_numpy(np.flatnonzero(grey)).to(self.device)
        result[made_grey] = luma(result[made_grey])
        return result

    def batch(self, count, crop, generator):
        """`crops` as an array."""
        return self.crops(count, crop, generator).cpu().numpy()


def luma(images):
    """Grey images u8 [N, 3, H, W] with three equal channels."""
    red, green, blue = images.int().unbind(1)
    grey = (77 * red + 150 * green + 29 * blue + 128) >> 8
    return grey.to(torch.uint8).unsqueeze(1).expand_as(images)


def training_images(root):
    """Every licence-clean photograph below `root`/train, in the order of the file names."""
    folders = [Path(root) / "train" / name for name in TRAINING_FOLDERS]
    return [read_rgb(file) for folder in folders for file in sorted(folder.iterdir())]


def tiles(image, size):
    """The whole tiles of an image, u8 [N, 3, size, size], row by row."""
    height, width = image.shape[0] // size, image.shape[1] // size
    cut = image[: height * size, : width * size]
    parts = cut.reshape(height, size, width, size, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(parts.reshape(-1, 3, size, size))


def strip(path, size, count):
    """The first `count` images of a strip file, u8 [count, 3, size, size]."""
    images = read_rgb(path).reshape(-1, size, size, 3)[:count]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def evaluation_sets(root):
    """Name → u8 [N, 3, size, size]; research-use images that are only ever measured."""
    folder = Path(root) / "valid"
    photographs = sorted((folder / "kodak").glob("*.png"))
    kodak = np.concatenate([tiles(read_rgb(photograph), 64) for photograph in photographs])
    return {
        "photos64": strip(folder / "photos64_strip_300.png", 64, 200),
        "cifar": strip(folder / "cifar10_test_strip_381.png", 32, 200),
        "kodak": kodak[::KODAK_TILE_STRIDE],
    }
