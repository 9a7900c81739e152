"""Muon for the convolutions between hidden channels: momentum, made orthogonal.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, with the
update's root mean square matched to Adam's (Liu et al., "Muon is scalable for LLM training", 2025,
section 2.2). `torch.optim.Muon` takes matrices only, one at a time; here convolution kernels
[O, I, k, k] are matrices [O, I·k·k], and those of one shape are worked on together. The first and
last convolutions of a network are better left to Adam: with Muon the training diverged.
"""

import math

import torch

# Coefficients of the quintic iteration, and how often it runs.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5

# Root mean square of an update at a rate of 1; Adam's is between 0.2 and 0.4.
UPDATE_SCALE = 0.2

# Shrinks kernels by this times the rate in every step. Without it they grow for ever, and networks
# become so ill-conditioned that activations of 8 bits cost a bit per dimension.
WEIGHT_DECAY = 0.2

# The rate of kernels as a multiple of Adam's rate of the other parameters.
KERNEL_SCALE = 10.0


def orthogonal(matrices):
    """The nearest semi-orthogonal matrices, roughly: singular values of 0.7…1.2; [N, R, C]."""
    a, b, c = QUINTIC
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-12)
    for _ in range(ITERATIONS):
        square = torch.bmm(x, x.transpose(1, 2))
        even = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, even, x, beta=a)
    return x if wide else x.transpose(1, 2)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose updates are orthogonal; all parameters are convolution kernels."""

    def __init__(self, parameters, lr, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            shapes = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
            for (rows, columns), parameters in shapes.items():
                self.update(parameters, rows, columns, group["lr"], group["momentum"])

    def update(self, parameters, rows, columns, rate, momentum):
        """Moves the parameters of one shape, which are matrices of `rows` × `columns`."""
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            mean = state["momentum"].lerp_(parameter.grad, 1 - momentum)
            updates.append(parameter.grad.lerp(mean, momentum).reshape(rows, columns))
        scale = rate * UPDATE_SCALE * math.sqrt(max(rows, columns))
        for parameter, update in zip(parameters, orthogonal(torch.stack(updates))):
            parameter.mul_(1 - rate * WEIGHT_DECAY)
            parameter.add_(update.reshape(parameter.shape), alpha=-scale)


class Together:
    """Optimisers of disjoint parameters, used as one."""

    def __init__(self, *optimisers):
        self.optimisers = optimisers

    @property
    def param_groups(self):
        return [group for o in self.optimisers for group in o.param_groups]

    def zero_grad(self, set_to_none=True):
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none)

    def step(self):
        for optimiser in self.optimisers:
            optimiser.step()

    def state_dict(self):
        return [o.state_dict() for o in self.optimisers]

    def load_state_dict(self, states):
        for optimiser, state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict(state)


def muon_and_adam(groups, kernels, rate, fused):
    """Muon for the `kernels` in the groups, Adam for their other parameters.

    Groups are the optimiser's; those of kernels get the "scale" of their rate.
    """
    chosen = {id(kernel) for kernel in kernels}
    orthogonal_groups, others = [], []
    for group in groups:
        inner = [p for p in group["params"] if id(p) in chosen]
        other = [p for p in group["params"] if id(p) not in chosen]
        orthogonal_groups += [{**group, "params": inner, "scale": KERNEL_SCALE}] if inner else []
        others += [{**group, "params": other}] if other else []
    adam = torch.optim.Adam(others, lr=rate, betas=(0.9, 0.99), fused=fused)
    if not orthogonal_groups:
        return adam
    return Together(Muon(orthogonal_groups, lr=rate * KERNEL_SCALE), adam)
