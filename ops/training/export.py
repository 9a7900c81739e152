"""Writes a quantised flow as a model file, and checks what it wrote."""

import copy
import json
from pathlib import Path

import numpy as np
import torch

from flow import StaticPrior
from integer import IntegerModel, cdf_tables

FORMAT_VERSION = "1"


class NetworkWriter:
    """Collects the operations and tensors of one network."""

    def __init__(self, prefix, tensors):
        self.prefix, self.tensors = prefix, tensors
        self.ops, self.count = [], 0

    def tensor(self, name, value, kind):
        full = f"{self.prefix}.{name}"
        self.tensors[full] = whole(value, kind)
        return full

    def append(self, op, **fields):
        output = f"v{self.count}"
        self.count += 1
        self.ops.append({"op": op, **fields, "output": output})
        return output

    def convolution(self, name, layer, x, input_steps, output_steps, kind):
        """A convolution and its requantisation to "i16" or "u8"; the output's name."""
        weight, bias, multiplier, shift = layer.integers(input_steps, output_steps)
        sums = self.append(
            "convolution",
            input=x,
            weight=self.tensor(f"{name}.weight", weight, np.int8),
            bias=self.tensor(f"{name}.bias", bias, np.int32),
        )
        return self.append(
            "requantise",
            input=sums,
            shift=int(shift),
            multiplier=self.tensor(f"{name}.multiplier", multiplier, np.int16),
            type=kind,
        )

    def rescale(self, name, multiplier, x):
        full = self.tensor(f"{name}.rescale", multiplier, np.int16)
        return self.append("rescale", input=x, multiplier=full)


def whole(value, kind):
    """The values as integers of a type; they must be whole and fit."""
    array = value.detach().cpu().double().numpy()
    result = array.astype(kind)
    if not np.array_equal(result.astype(np.float64), array):
        raise ValueError(f"values outside {np.dtype(kind)}")
    return np.ascontiguousarray(result)


def network_ops(network, prefix, tensors):
    """The op list of a quantised network; adds its tensors."""
    writer = NetworkWriter(prefix, tensors)
    network.write(writer)
    return {"ops": writer.ops}


@torch.no_grad()
def model_parts(flow):
    """(flow description, tensors) of a quantised flow."""
    flow = copy.deepcopy(flow).cpu().double()
    tensors, levels = dict(cdf_tables()), []
    for l, level in enumerate(flow.levels):
        plan = level.plan
        steps = [
            {
                "context": step.context,
                "target": step.target,
                "network": network_ops(network, f"l{l}.s{n}", tensors),
            }
            for n, (step, network) in enumerate(zip(plan.steps, level.couplings))
        ]
        groups = []
        for n, (size, prior) in enumerate(zip(plan.groups, level.priors)):
            if isinstance(prior, StaticPrior):
                name = f"l{l}.g{n}.static"
                tensors[name] = whole(prior.values(), np.int16)
                groups.append({"channels": size, "static": name})
            else:
                ops = network_ops(prior, f"l{l}.g{n}", tensors)
                groups.append({"channels": size, "network": ops})
        description = {"steps": steps, "keep": plan.keep, "groups": groups}
        if plan.order != list(range(plan.channels)):
            description["order"] = plan.order
        levels.append(description)
    description = {"channels": 3, "colour": flow.shape.colour}
    if flow.shape.corrects_scales:
        description["correctsScales"] = True
    if flow.shape.corrects_means:
        description["correctsMeans"] = True
    if flow.shape.mirrors:
        description["mirrors"] = True
    return {**description, "levels": levels}, tensors


def integer_model(flow):
    """The checked integer model of a quantised flow."""
    model = IntegerModel(*model_parts(flow))
    validate(model)
    return model


def export(model, path, profile, provenance):
    """Writes a model file; the same model and provenance give the same bytes."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "flowpack.format": FORMAT_VERSION,
        "flowpack.profile": profile,
        "flowpack.flow": compact(model.flow),
        "flowpack.provenance": compact(provenance),
    }
    names = sorted(model.arrays, key=lambda n: (-model.arrays[n].itemsize, n))
    header, end = {"__metadata__": metadata}, 0
    for name in names:
        array = model.arrays[name]
        header[name] = {
            "dtype": f"I{8 * array.itemsize}",
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = compact(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(model.arrays[name].astype(model.arrays[name].dtype.newbyteorder("<")).tobytes())


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def validate(model):
    """Checks the bounds that keep every sum inside 32 bits; raises ValueError with the tensor."""
    for level in model.flow["levels"]:
        networks = [s["network"] for s in level["steps"]]
        networks += [g["network"] for g in level["groups"] if "network" in g]
        for op in (op for network in networks for op in network["ops"]):
            if op["op"] == "convolution":
                largest = 1023 if op["input"] == "latents" else 255
                weight = model.arrays[op["weight"]].astype(np.int64)
                bias = model.arrays[op["bias"]].astype(np.int64)
                bound = largest * np.abs(weight).sum((1, 2, 3)) + np.abs(bias)
                if np.abs(weight).max() > 127 or bound.max() >= 2**31:
                    raise ValueError(f"{op['weight']}: sums may leave 32 bits")
            elif "multiplier" in op and model.arrays[op["multiplier"]].min() < 0:
                raise ValueError(f"{op['multiplier']}: negative multiplier")
