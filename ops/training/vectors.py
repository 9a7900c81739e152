"""Writes the tiny models and test vectors of Tests/Fixtures/vectors: `python vectors.py FOLDER`.

The models have random weights of realistic size; the images are photograph-like, noise and
extremes, so that clamps, saturation and escapes all occur. Golden files: write new ones beside the
old, never over them, when the format changes.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from data import box_reduce
from dense import DenseShape
from export import export, integer_model
from flow import SHAPES, Flow, StaticPrior
from integer import rans_encode
from paper import paper_shape
from quantise import quantised

TINY_DENSE = paper_shape("tiny-dense", [DenseShape(3, 14), DenseShape(2, 9)], steps=2)

# File name suffix → (images, height, width): odd sides, one whole size, one single pixel.
BLOCKS = {"3x13x11": (3, 13, 11), "2x8x16": (2, 8, 16), "1x1x1": (1, 1, 1)}


def images(count, height, width, seed):
    """u8 [count, 3, height, width]: smooth with a little noise, pure noise, black and white."""
    generator = np.random.default_rng(seed)
    rough = generator.integers(0, 256, (8 * height + 64, 8 * width + 64, 3), dtype=np.uint8)
    smooth = box_reduce(rough, 8).astype(np.float64)[:height, :width]
    ramp = np.linspace(0, 160, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    photograph = np.clip(ramp + 2 * (smooth - 127), 0, 255).astype(np.uint8)
    noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    extremes = 255 * (generator.random((height, width, 3)) < 0.5).astype(np.uint8)
    chosen = (photograph, noise, extremes)
    return np.stack([chosen[n % 3] for n in range(count)]).transpose(0, 3, 1, 2).copy()


def random_flow(shape, seed):
    """A float64 flow of random weights.

    Translations are several pixels and scales vary; under permuted couplings the first step moves
    latents beyond ±1023, so that the later networks clamp their input.
    """
    flow = Flow(shape).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * noise)
        for level in flow.levels:
            for prior in level.priors:
                bias = prior.parameters_ if isinstance(prior, StaticPrior) else prior.last.bias
                bias[len(bias) // 2 :] += 1.4
        if shape.coupling == "permuted":
            flow.levels[0].couplings[0].last.weight.mul_(60)
    return flow


def nhwc(z):
    return np.ascontiguousarray(z.permute(0, 2, 3, 1).numpy())


def narrow(array):
    """The array in the smallest of u8, i16 and i32 that holds it."""
    for kind in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= array.min() and array.max() <= limits.max:
            return array.astype(kind)
    raise ValueError("values outside Int32")


def vectors(model, block):
    """Everything the model does with a block, by name."""
    trace = {}
    passes = model.forward(block, trace)
    result = {"input": block}
    for name, value in trace.items():
        maps = nhwc(value)
        if ".op" in name:
            result[name] = narrow(maps[:1])
        else:
            result[name] = maps.astype(np.int16)
    coded = []
    for n, (values, means, scales) in enumerate(passes):
        starts, frequencies = model.cdf.intervals(values, means, scales)
        coded.append((starts.ravel(), frequencies.ravel()))
        result[f"pass{n}.values"] = values.astype(np.int16)
        result[f"pass{n}.means"] = means.astype(np.int16)
        result[f"pass{n}.scales"] = scales.astype(np.uint8)
        result[f"pass{n}.starts"] = starts.astype(np.int32)
        result[f"pass{n}.frequencies"] = frequencies.astype(np.int32)
    result["stream"] = rans_encode([p[0].ravel() for p in passes], coded)
    restored = model.inverse([p[0] for p in passes], len(block), *block.shape[2:])
    if not np.array_equal(restored, block):
        raise AssertionError("the inverse does not restore the block")
    # safetensors writes memory as it lies, whatever the strides.
    return {name: np.ascontiguousarray(value) for name, value in result.items()}


def write(folder):
    shapes = (
        SHAPES["tiny-lifting"], SHAPES["tiny-permuted"], TINY_DENSE, SHAPES["tiny-shortcut"],
    )
    for seed, shape in enumerate(shapes, 1):
        name, flow = shape.name, random_flow(shape, seed)
        calibration = torch.from_numpy(images(9, 16, 16, seed=100 + seed)).double()
        model = integer_model(quantised(flow, calibration))
        path = folder / f"{name}.model.safetensors"
        export(model, path, name, {"data": "random weights", "seed": seed})
        for suffix, size in BLOCKS.items():
            found = vectors(model, images(*size, seed=seed))
            save_file(
                found, folder / f"{name}.{suffix}.vectors.safetensors", {"model": path.name}
            )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
