"""Any folder of images: a sample to train on, and crops that are only measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data import tiles

CODED_SUFFIXES = (".png", ".pnm", ".ppm", ".pgm")
STORED_SUFFIXES = (".jpg", ".jpeg", ".webp")  # Flowpack keeps these files as they are

HELD_OUT_EVERY = 10
HELD_OUT_IMAGES = 256  # at most
HELD_OUT_PIXELS = 2**19  # of all crops together; measuring them takes seconds
TRAINING_PIXELS = 2**28  # kept in memory, 0.8 GB
WINDOW = 1024  # of a larger image, a random part of this side is taken
LARGEST_CROP = 128
FITTING = 0.9  # of the pixels lie in images that hold a crop


@dataclass(frozen=True)
class FolderSample:
    """What is trained on and what is measured; no image is in both."""

    training: list  # u8 [H, W, 3], sides multiples of the unit
    held_out: np.ndarray  # u8 [N, 3, crop, crop]
    crop: int
    held_out_images: int
    stored: int  # files of kinds that Flowpack stores
    unusable: list  # paths of files that are damaged, too small, or of more than 8 bits


def image_files(folder):
    """The image files below a folder, known by their suffixes, in the order of their paths."""
    suffixes = CODED_SUFFIXES + STORED_SUFFIXES
    return sorted(
        f for f in Path(folder).rglob("*") if f.suffix.lower() in suffixes and f.is_file()
    )


def sample_folder(folder, unit, seed):
    """A `FolderSample` for a model whose images have sides of multiples of `unit`.

    Every tenth file is held out; which of many files are read is drawn from the seed. Raises
    ValueError when the folder has too few images that can be used.
    """
    files = image_files(folder)
    if not files:
        raise ValueError(f"{folder}: no PNG, PNM, JPEG or WebP files")
    generator, unusable = np.random.default_rng(seed), []

    def windows(some):
        for n in generator.permutation(len(some)):
            image = window(some[n], unit, generator)
            if image is None:
                unusable.append(some[n])
            else:
                yield image

    training, pixels = [], 0
    for image in windows([f for n, f in enumerate(files) if n % HELD_OUT_EVERY]):
        training.append(image)
        pixels += image.shape[0] * image.shape[1]
        if pixels >= TRAINING_PIXELS:
            break
    if not training:
        raise ValueError(
            f"{folder}: too few images; none of {len(files)} files to train on is an 8-bit image "
            f"of at least {unit}×{unit} pixels"
        )
    crop = crop_side(training, unit)
    crops = held_out_crops(windows(files[::HELD_OUT_EVERY]), crop, len(files), generator)
    if not crops:
        raise ValueError(
            f"{folder}: too few images; every tenth is held out, but none of these holds a crop "
            f"of {crop}×{crop} pixels"
        )
    return FolderSample(
        training, np.concatenate(crops), crop, len(crops),
        sum(f.suffix.lower() in STORED_SUFFIXES for f in files), unusable,
    )


def window(path, unit, generator):
    """A part of the image of at most WINDOW pixels a side, u8; None if it cannot be used.

    Sides are extended to multiples of `unit` by repeating the last pixels, as the codec does.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")) or min(image.size) < unit:
                return None
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    y, x = (generator.integers(max(0, side - WINDOW) + 1) for side in pixels.shape[:2])
    part = pixels[y : y + WINDOW, x : x + WINDOW]
    padding = [(0, -side % unit) for side in part.shape[:2]]
    return np.pad(part, [*padding, (0, 0)], mode="edge")


def crop_side(images, unit):
    """The side of the largest square, a multiple of `unit`, that nearly all images hold."""
    sides = np.array([min(i.shape[:2]) for i in images])
    areas = np.array([i.shape[0] * i.shape[1] for i in images], float)
    order = np.argsort(-sides)
    held = np.cumsum(areas[order]) >= FITTING * areas.sum()
    return min(LARGEST_CROP, int(sides[order][held.argmax()])) // unit * unit


def held_out_crops(images, crop, files, generator):
    """Crops u8 [n, 3, crop, crop] of each image that holds one, the same share of each."""
    expected = min(HELD_OUT_IMAGES, -(-files // HELD_OUT_EVERY))
    share = max(1, HELD_OUT_PIXELS // crop**2 // expected)
    result = []
    for image in images:
        if min(image.shape[:2]) >= crop:
            parts = tiles(image, crop)
            result.append(parts[generator.permutation(len(parts))[:share]])
        if len(result) == expected or sum(map(len, result)) * crop**2 >= HELD_OUT_PIXELS:
            break
    return result
