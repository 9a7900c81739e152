"""The integer model, executed straight from its file: definition for tests and vectors.

Whole numbers throughout (int64; convolutions in float64, exact below 2^53). Maps are NCHW inside
this module and NHWC where they leave it.
"""

import json
import math

import numpy as np
import torch
from safetensors import safe_open
from torch.nn import functional as F

from flow import (
    LARGEST_SCALE, LARGEST_WINDOW, SCALE_COUNT, SMALLEST_SCALE, SMALLEST_WINDOW, WINDOW_SCALES,
    squeeze, unsqueeze,
)

PROBABILITY_BITS = 16
TABLE_CENTRE, TABLE_STEPS_PER_SCALE = 768, 64
ESCAPE_START = 65535
LATENT_LIMIT = 1023


def cdf_tables():
    """The three int32 tables of the discretised logistic: σ, 1/scale, window."""
    count = 2 * TABLE_CENTRE + 1
    logistic = [
        math.floor(65536 / (1 + math.exp(-(i - TABLE_CENTRE) / TABLE_STEPS_PER_SCALE)) + 0.5)
        for i in range(count)
    ]
    logistic[0], logistic[-1] = 0, 65536
    ratio = LARGEST_SCALE / SMALLEST_SCALE
    scales = [SMALLEST_SCALE * ratio ** (k / (SCALE_COUNT - 1)) for k in range(SCALE_COUNT)]
    inverse = [math.floor(2**16 * 64 / (32 * s) + 0.5) for s in scales]
    window = [
        round(min(LARGEST_WINDOW, max(SMALLEST_WINDOW, math.ceil(WINDOW_SCALES * s)))) for s in scales
    ]
    return {
        "cdf.logistic": np.array(logistic, np.int32),
        "cdf.inverse_scale": np.array(inverse, np.int32),
        "cdf.window": np.array(window, np.int32),
    }


class LogisticCDF:
    """Frequency intervals of latents under a mean in 1/32 pixel and a scale index."""

    def __init__(self, tables):
        self.logistic = tables["cdf.logistic"].astype(np.int64)
        self.inverse_scale = tables["cdf.inverse_scale"].astype(np.int64)
        self.window = tables["cdf.window"].astype(np.int64)

    def cumulative(self, bins, phase, scale):
        """C(j): the start of bin j − centre, 0…65535."""
        window, inverse = self.window[scale], self.inverse_scale[scale]
        t = (32 * bins - 16 - phase) * inverse
        i = (t >> 16) + TABLE_CENTRE
        inner = np.clip(i, 0, 2 * TABLE_CENTRE - 1)
        low, high = self.logistic[inner], self.logistic[inner + 1]
        sigma = low + (((high - low) * (t & 0xFFFF)) >> 16)
        sigma = np.where(i < 0, 0, np.where(i >= 2 * TABLE_CENTRE, 65536, sigma))
        inside = ((sigma * (65536 - (2 * window + 2))) >> 16) + bins + window
        return np.where(bins <= -window, 0, np.where(bins > window, ESCAPE_START, inside))

    def intervals(self, values, means, scales):
        """(starts, frequencies); an escape is (65535, 1)."""
        values, means = values.astype(np.int64), means.astype(np.int64)
        centre = (means + 16) >> 5
        phase, bins = means - 32 * centre, values - centre
        escaped = np.abs(bins) > self.window[scales]
        start = self.cumulative(bins, phase, scales)
        frequency = self.cumulative(bins + 1, phase, scales) - start
        return np.where(escaped, ESCAPE_START, start), np.where(escaped, 1, frequency)


def cost_in_bits(starts, frequencies):
    """Bits of symbols with these intervals; an escape carries 16 raw bits more."""
    bits = PROBABILITY_BITS - np.log2(frequencies)
    return bits + np.where(starts == ESCAPE_START, 16, 0)


def rans_encode(values, passes, lanes=32):
    """The stream of (starts, frequencies) per pass in decode order; bytes as u8."""
    count = min(lanes, max(len(starts) for starts, _ in passes))
    states, words = [1 << 16] * count, []
    symbols = []
    for (starts, frequencies), latents in zip(passes, values):
        for n, (start, frequency) in enumerate(zip(starts.tolist(), frequencies.tolist())):
            symbols.append((n % lanes, start, frequency))
            if start == ESCAPE_START:
                symbols.append((n % lanes, int(latents[n]) & 0xFFFF, 1))
    for lane, start, frequency in reversed(symbols):
        if states[lane] >= frequency << 16:
            words.append(states[lane] & 0xFFFF)
            states[lane] >>= 16
        states[lane] = (states[lane] // frequency << 16) + start + states[lane] % frequency
    head = np.array(states, "<u4").view(np.uint8)
    return np.concatenate([head, np.array(words[::-1], "<u2").view(np.uint8)])


def saturate16(x):
    return x.clamp(-32768, 32767)


def round_shift15(x, multiplier):
    return (x * multiplier.view(1, -1, 1, 1) + (1 << 14)) >> 15


class IntegerModel:
    """A flow description with its tensors, executed operation by operation."""

    def __init__(self, flow, arrays):
        self.flow, self.arrays = flow, arrays
        self.tensors = {k: torch.from_numpy(v.astype(np.int64)) for k, v in arrays.items()}
        self.cdf = LogisticCDF(arrays)

    @classmethod
    def load(cls, path):
        """The model of a file."""
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            return cls(json.loads(file.metadata()["flowpack.flow"]), arrays)

    def run(self, network, latents, trace=None, path=""):
        """The result [N, C, H, W] of a network; `trace` receives every op's output."""
        values = {"latents": latents.clamp(-LATENT_LIMIT, LATENT_LIMIT)}
        result = None
        for n, op in enumerate(network["ops"]):
            x = values[op["input"]] if "input" in op else [values[v] for v in op["inputs"]]
            if op["op"] == "convolution":
                weight = self.tensors[op["weight"]].double()
                sums = F.conv2d(x.double(), weight, padding=weight.shape[-1] // 2).long()
                result = sums + self.tensors[op["bias"]].view(1, -1, 1, 1)
            elif op["op"] == "requantise":
                shifted = saturate16(x >> op["shift"])
                result = round_shift15(shifted, self.tensors[op["multiplier"]])
                result = result.clamp(0, 255) if op["type"] == "u8" else saturate16(result)
            elif op["op"] == "rescale":
                result = round_shift15(x, self.tensors[op["multiplier"]]).clamp(0, 255)
            elif op["op"] == "add":
                result = saturate16(x + values[op["other"]])
            elif op["op"] == "round":
                result = (x + (1 << (op["bits"] - 1))) >> op["bits"]
            elif op["op"] == "concat":
                result = torch.cat(x, 1)
            else:
                raise ValueError(f"unknown operation {op['op']}")
            values[op["output"]] = result
            if trace is not None:
                trace[f"{path}.op{n}"] = result
        return result

    def prior(self, group, known, trace=None, path=""):
        """Means and scale indices 0…127, each [N, n, H, W]."""
        if "static" in group:
            n, _, h, w = known.shape
            result = self.tensors[group["static"]].view(1, -1, 1, 1).expand(n, -1, h, w)
        else:
            result = self.run(group["network"], known, trace, path)
        means, scales = result.chunk(2, 1)
        return means, scales.clamp(0, 127)

    def pad(self, images):
        """Edge-replicated right and bottom to whole multiples of 2^L; int64 [N, 3, H, W]."""
        unit = 2 ** len(self.flow["levels"])
        height, width = images.shape[2:]
        padding = ((0, 0), (0, 0), (0, -height % unit), (0, -width % unit))
        return torch.from_numpy(np.pad(images, padding, mode="edge").astype(np.int64))

    def forward(self, images, trace=None):
        """Per pass in decode order (values, means, scales), each [N, H, W, n] int64."""
        z = to_latents(self.pad(images), self.flow["colour"])
        levels = []
        for l, level in enumerate(self.flow["levels"]):
            z = squeeze(z)
            note(trace, f"level{l}.squeezed", z)
            for n, step in enumerate(level["steps"]):
                shift = self.run(step["network"], z[:, step["context"]], trace, f"level{l}.step{n}")
                z = z.clone()
                z[:, step["target"]] = wrap16(z[:, step["target"]] + shift)
            z = z[:, level["order"]] if "order" in level else z
            note(trace, f"level{l}.coupled", z)
            begin, groups = level["keep"], []
            for n, group in enumerate(level["groups"]):
                end = begin + group["channels"]
                means, scales = self.prior(group, z[:, :begin], trace, f"level{l}.prior{n}")
                groups.append([m.permute(0, 2, 3, 1).numpy() for m in (z[:, begin:end], means, scales)])
                begin = end
            levels.append(groups)
            z = z[:, : level["keep"]]
        return [g for groups in reversed(levels) for g in groups]

    def inverse(self, values, count, height, width):
        """Images u8 [N, 3, height, width] from each pass's values [N, H, W, n] in decode order."""
        unit = 2 ** len(self.flow["levels"])
        rows, columns = (-(-height // unit), -(-width // unit))
        kept, position = torch.zeros(count, 0, rows, columns, dtype=torch.int64), 0
        for level in reversed(self.flow["levels"]):
            z = kept
            for _ in level["groups"]:
                group = torch.from_numpy(np.ascontiguousarray(values[position])).permute(0, 3, 1, 2)
                z, position = torch.cat([z, group], 1), position + 1
            if "order" in level:
                z = z[:, np.argsort(level["order"]).tolist()]
            for step in reversed(level["steps"]):
                shift = self.run(step["network"], z[:, step["context"]])
                z = z.clone()
                z[:, step["target"]] = wrap16(z[:, step["target"]] - shift)
            kept = unsqueeze(z)
        return to_pixels(kept, self.flow["colour"])[:, :, :height, :width].numpy().astype(np.uint8)

    def bits(self, images):
        """Bits of a block of u8 images by the integer frequencies."""
        total = 0.0
        for values, means, scales in self.forward(images):
            total += cost_in_bits(*self.cdf.intervals(values, means, scales)).sum()
        return total

    def bits_per_dimension(self, images, batch=32):
        parts = range(0, len(images), batch)
        return sum(self.bits(images[b : b + batch]) for b in parts) / images.size


def note(trace, name, z):
    if trace is not None:
        trace[name] = z


def wrap16(x):
    return ((x + 32768) & 0xFFFF) - 32768


def to_latents(x, colour):
    if colour == "none":
        return x - 128
    red, green, blue = x.unbind(1)
    orange = red - blue
    middle = blue + (orange >> 1)
    green_difference = green - middle
    return torch.stack([middle + (green_difference >> 1) - 128, orange, green_difference], 1)


def to_pixels(z, colour):
    if colour == "none":
        return z + 128
    luma, orange, green_difference = z.unbind(1)
    middle = luma + 128 - (green_difference >> 1)
    blue = middle - (orange >> 1)
    return torch.stack([blue + orange, green_difference + middle, blue], 1)
