"""Measures PyTorch's float32 convolution: kernels_float32.py SECONDS SHAPE...

Prints GMAC/s as JSON.
"""

import json
import sys

import torch

from kernels import Shape
from timing import best_seconds


@torch.inference_mode()
def rate(shape, seconds):
    layer = torch.nn.Conv2d(
        shape.inputs, shape.outputs, shape.kernel, padding=shape.kernel // 2
    ).to(memory_format=torch.channels_last)
    x = torch.rand(shape.images, shape.inputs, shape.height, shape.width)
    x = x.contiguous(memory_format=torch.channels_last)
    return shape.macs / best_seconds(lambda: layer(x), seconds) / 1e9


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([rate(Shape.parse(text), float(sys.argv[1])) for text in sys.argv[2:]]))
