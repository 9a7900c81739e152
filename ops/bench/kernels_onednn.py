"""Measures oneDNN's int8 convolution, as PyTorch has it: kernels_onednn.py SECONDS SHAPE...

Prints GMAC/s as JSON. ONEDNN_MAX_CPU_ISA limits the instruction set.
"""

import json
import sys
import warnings

import torch

from kernels import Shape
from timing import best_seconds

LAYERS = 8
SCALE = 0.02


def rate(shape, seconds):
    border = [shape.kernel // 2] * 2
    layers = [
        torch.ops.quantized.conv2d_prepack(
            weights(shape), torch.randn(shape.outputs) * 0.01, [1, 1], border, [1, 1], 1
        )
        for _ in range(LAYERS)
    ]
    pixels = torch.rand(shape.images, shape.inputs, shape.height, shape.width) * 5
    x = torch.quantize_per_tensor(pixels, SCALE, 0, torch.quint8)
    x = x.contiguous(memory_format=torch.channels_last)

    def chain():
        y = x
        for layer in layers:
            y = torch.ops.quantized.conv2d_relu(y, layer, SCALE, 0)

    return LAYERS * shape.macs / best_seconds(chain, seconds) / 1e9


def weights(shape):
    """Random weights of 8 bits with a scale for each output channel."""
    size = (shape.outputs, shape.inputs, shape.kernel, shape.kernel)
    scales = torch.full((shape.outputs,), 0.0005, dtype=torch.double)
    zeros = torch.zeros(shape.outputs, dtype=torch.long)
    return torch.quantize_per_channel(torch.randn(size) * 0.02, scales, zeros, 0, torch.qint8)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of functions that PyTorch will move to another package
    torch.set_num_threads(1)
    torch.backends.quantized.engine = "onednn"
    print(json.dumps([rate(Shape.parse(text), float(sys.argv[1])) for text in sys.argv[2:]]))
