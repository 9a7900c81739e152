"""The analytic code length of images under a model file, and what the integer coder adds to it."""

import sys
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))
from flow import LARGEST_SCALE, MEAN_UNITS, SCALE_COUNT, SMALLEST_SCALE
from integer import ESCAPE_START, cost_in_bits

BATCH_PIXELS = 2**17  # run through the model at once; a larger image runs alone
CORRECTION_UNIT = 2  # scale indices
RESIDUAL_LIMIT = 2047  # 1/32 pixel
WEIGHT_BITS = 5


@dataclass(frozen=True)
class CodeLength:
    """Bits of some symbols: analytic, and what is added by the coder's integers."""

    analytic: float = 0.0
    precision: float = 0.0  # of symbols inside the window: frequencies of 16 bits, at least 1
    escapes: float = 0.0  # of symbols outside it
    symbols: int = 0
    escaped: int = 0

    def __add__(self, other):
        return CodeLength(*(a + b for a, b in zip(astuple(self), astuple(other))))

    @property
    def integer(self):
        """Bits by the coder's frequencies."""
        return self.analytic + self.precision + self.escapes


def exact_bits(values, means, scales):
    """−log2 of the discretised logistic, float64: the mass of each value's pixel-wide interval.

    Means in 1/32 pixel, scales as indices; no window, no rounding, no escape.
    """
    ratio = LARGEST_SCALE / SMALLEST_SCALE
    scale = SMALLEST_SCALE * ratio ** (np.asarray(scales, np.float64) / (SCALE_COUNT - 1))
    distance = np.abs(values - np.asarray(means, np.float64) / MEAN_UNITS)
    # P = σ(−upper) − σ(−lower) on the tail's side, where both terms are small.
    upper, lower = (distance - 0.5) / scale, (distance + 0.5) / scale
    nearer, farther = -np.logaddexp(0, upper), -np.logaddexp(0, lower)
    return -(nearer + np.log(-np.expm1(farther - nearer))) / np.log(2)


def pass_length(cdf, values, means, scales):
    """The CodeLength of one pass of `IntegerModel.forward`."""
    starts, frequencies = cdf.intervals(values, means, scales)
    exact = exact_bits(values, means, scales)
    added = cost_in_bits(starts, frequencies) - exact
    outside = starts == ESCAPE_START
    return CodeLength(
        float(exact.sum()), float(added[~outside].sum()), float(added[outside].sum()),
        outside.size, int(outside.sum()),
    )  # fmt: skip


def code_length(model, images, corrections=None, mean_coefficients=None):
    """The CodeLength of u8 images [N, 3, H, W] under an `IntegerModel`.

    `corrections` of the scale indices, if any: an array of each pass, one for each channel.
    `mean_coefficients`, if any: of each pass None or an array, a row for each image.
    """
    batch = max(1, BATCH_PIXELS // (images.shape[2] * images.shape[3]))
    total = CodeLength()
    for begin in range(0, len(images), batch):
        passes = model.forward(images[begin : begin + batch])
        for n, (values, means, scales) in enumerate(passes):
            if mean_coefficients is not None and mean_coefficients[n] is not None:
                rows = mean_coefficients[n][begin : begin + batch]
                means = corrected_means(values, means, rows)
            if corrections is not None:
                scales = np.clip(scales + corrections[n], 0, SCALE_COUNT - 1)
            total += pass_length(model.cdf, values, means, scales)
    return total


def corrected_means(values, means, coefficients):
    """Means [N, H, W, C] moved by each image's constants and weights [N, C·(C + 1)/2]."""
    residuals = np.clip(MEAN_UNITS * values.astype(np.int64) - means, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
    corrected, first = means.astype(np.int64), 0
    for channel in range(means.shape[-1]):
        constants, *weights = coefficients[:, first : first + channel + 1].T[:, :, None, None]
        moved = sum(w * residuals[..., k] for k, w in enumerate(weights))
        corrected[..., channel] += constants + (moved + (1 << WEIGHT_BITS - 1) >> WEIGHT_BITS)
        first += channel + 1
    return np.clip(corrected, -(2**15), 2**15 - 1)


def mirrored(model, images, payload):
    """(u8 images [N, 3, H, W] as they are coded, bytes of the section that says so).

    `payload` is that of their block without the corrections of scales. The section is laid out in
    Sources/Codec/Codec.docc/Codec.md, "Mirrored images".
    """
    if not model.flow.get("mirrors"):
        return images, 0
    size = (len(images) + 1) // 2
    section = np.frombuffer(payload, np.uint8, size)
    halves = np.stack([section & 15, section >> 4], 1).ravel()
    axes = [[3 - axis for axis in range(3) if half >> axis & 1] for half in halves]
    return np.stack([np.flip(i[None], a)[0] for i, a in zip(images, axes)]), size


def scale_corrections(model, payload):
    """(corrections as `code_length` takes them or None, bytes of their section) of a flow block.

    The section is laid out in Sources/Codec/Codec.docc/Codec.md, "Corrected scales".
    """
    if not model.flow.get("correctsScales"):
        return None, 0
    if payload[0] == 0:
        return None, 1
    groups = pass_channels(model)
    count = sum(groups)
    halves = np.frombuffer(payload, np.uint8, (count + 1) // 2, offset=1)
    offsets = np.stack([halves & 15, halves >> 4], 1).ravel()[:count].astype(np.int64)
    indices = CORRECTION_UNIT * ((offsets ^ 8) - 8)
    return np.split(indices, np.cumsum(groups)[:-1]), 1 + len(halves)


def mean_corrections(model, payload, count):
    """(coefficients as `code_length` takes them or None, bytes of their section) of `count` images.

    `payload` begins behind the sections above. The section is laid out in
    Sources/Codec/Codec.docc/Codec.md, "Corrected means".
    """
    if not model.flow.get("correctsMeans"):
        return None, 0
    groups = pass_channels(model)
    size = (len(groups) + 7) // 8
    mask = int.from_bytes(payload[:size], "little")
    coefficients = [None] * len(groups)
    for n, channels in enumerate(groups):
        if mask >> n & 1:
            each = channels * (channels + 1) // 2
            numbers = np.frombuffer(payload, np.int8, count * each, offset=size)
            coefficients[n] = numbers.reshape(count, each).astype(np.int64)
            size += count * each
    return coefficients, size


def pass_channels(model):
    """The channels of each pass, in decode order."""
    return [g["channels"] for level in reversed(model.flow["levels"]) for g in level["groups"]]
