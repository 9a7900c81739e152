"""Measures ONNX Runtime's QLinearConv: kernels_onnx.py SECONDS SHAPE...; prints GMAC/s as JSON."""

import json
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from kernels import Shape
from timing import best_seconds

LAYERS = 8
OPSET, IR_VERSION = 13, 8


def chain(shape, random):
    """The bytes of a model with equal layers, one after the other."""
    constants, nodes = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(value, name))
        return name

    scale, zero = constant("scale", np.float32(0.02)), constant("zero", np.uint8(0))
    zeros = constant("zeros", np.zeros(shape.outputs, np.int8))
    scales = constant("scales", np.full(shape.outputs, 0.0005, np.float32))
    size = (shape.outputs, shape.inputs, shape.kernel, shape.kernel)
    for n in range(LAYERS):
        weights = constant(f"w{n}", random.integers(-127, 128, size, np.int8))
        bias = constant(f"b{n}", random.integers(-1000, 1000, shape.outputs, np.int32))
        inputs = [f"x{n}", scale, zero, weights, scales, zeros, scale, zero, bias]
        border = [shape.kernel // 2] * 4
        nodes.append(helper.make_node("QLinearConv", inputs, [f"x{n + 1}"], pads=border))
    maps = [shape.images, shape.inputs, shape.height, shape.width]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, maps)
        for name in ("x0", f"x{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return model.SerializeToString()


def rate(shape, seconds):
    random = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        chain(shape, random), options, providers=["CPUExecutionProvider"]
    )
    maps = (shape.images, shape.inputs, shape.height, shape.width)
    x = random.integers(0, 256, maps, np.uint8)
    elapsed = best_seconds(lambda: session.run(None, {"x0": x}), seconds)
    return LAYERS * shape.macs / elapsed / 1e9


if __name__ == "__main__":
    print(json.dumps([rate(Shape.parse(text), float(sys.argv[1])) for text in sys.argv[2:]]))
