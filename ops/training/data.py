"""Photographs as training crops and as evaluation sets."""

from pathlib import Path

import numpy as np
from PIL import Image

# The licence-clean folders of the training data; `research-only` is never read.
TRAINING_FOLDERS = ("cid22_512", "clic_full", "clic_half")

# Box reductions of the sources and how often a crop is drawn from each.
REDUCTIONS = {1: 0.25, 2: 0.20, 3: 0.15, 4: 0.18, 6: 0.12, 8: 0.10}

# Tiles of the Kodak photographs used while training: every 12th, to keep an evaluation short.
KODAK_TILE_STRIDE = 12


def read_rgb(path):
    """The file's pixels, u8 [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def box_reduce(image, factor, dy=0, dx=0):
    """Means of factor × factor pixels from offset (dy, dx), u8 [H/factor, W/factor, 3]."""
    height, width = (image.shape[0] - dy) // factor, (image.shape[1] - dx) // factor
    cut = image[dy : dy + height * factor, dx : dx + width * factor]
    rows = cut.reshape(height, factor, width * 3 * factor).sum(1, dtype=np.uint32)
    sums = rows.reshape(height, width, factor, 3).sum(2)
    return ((sums + factor * factor // 2) // (factor * factor)).astype(np.uint8)


class CropSampler:
    """Random square crops of photographs at several scales, flipped and transposed.

    The sources of one reduction are kept in all phases of half a box, so that the crops differ in
    more than their position.
    """

    def __init__(self, images, largest_crop, reductions=REDUCTIONS):
        self.images = {}
        for factor in reductions:
            half = factor // 2
            phases = [(0, 0)] if half == 0 else [(0, 0), (0, half), (half, 0), (half, half)]
            reduced = [box_reduce(i, factor, *p) if factor > 1 else i for i in images for p in phases]
            fitting = [i for i in reduced if min(i.shape[:2]) >= largest_crop]
            if fitting:
                self.images[factor] = fitting
        if not self.images:
            raise ValueError(f"no source holds a crop of {largest_crop} pixels")
        weights = np.array([reductions[f] for f in self.images])
        self.factors = list(self.images)
        self.probabilities = weights / weights.sum()
        self.areas = {
            f: np.cumsum([i.shape[0] * i.shape[1] for i in images])
            for f, images in self.images.items()
        }

    def batch(self, count, crop, generator):
        """Crops u8 [count, 3, crop, crop]; draws only from `generator`."""
        crops = np.empty((count, crop, crop, 3), np.uint8)
        for n in range(count):
            factor = self.factors[generator.choice(len(self.factors), p=self.probabilities)]
            areas = self.areas[factor]
            image = self.images[factor][np.searchsorted(areas, generator.integers(areas[-1]), "right")]
            y = generator.integers(image.shape[0] - crop + 1)
            x = generator.integers(image.shape[1] - crop + 1)
            piece = image[y : y + crop, x : x + crop]
            if generator.random() < 0.5:
                piece = piece[:, ::-1]
            if generator.random() < 0.5:
                piece = piece[::-1]
            if generator.random() < 0.3:
                piece = piece.transpose(1, 0, 2)
            crops[n] = piece
        return np.ascontiguousarray(crops.transpose(0, 3, 1, 2))


def training_images(root):
    """Every licence-clean photograph below `root`/train, in the order of the file names."""
    files = [f for folder in TRAINING_FOLDERS for f in sorted((Path(root) / "train" / folder).iterdir())]
    return [read_rgb(f) for f in files]


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
    kodak = np.concatenate([tiles(read_rgb(f), 64) for f in sorted((folder / "kodak").glob("*.png"))])
    return {
        "photos64": strip(folder / "photos64_strip_300.png", 64, 200),
        "cifar": strip(folder / "cifar10_test_strip_381.png", 32, 200),
        "kodak": kodak[::KODAK_TILE_STRIDE],
    }
