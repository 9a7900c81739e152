"""Weights rounded together: each error is made good by the weights that are not rounded yet.

GPTQ (Frantar et al., 2022, arXiv:2210.17323, §3), with the bias as a last weight that stays as it
comes out. What is made small is the squared error of a layer's sums on what it sees of images, not
that of its weights: above all, the weights of a channel that is large everywhere, such as
brightness, keep their sum.
"""

import torch
from torch.nn import functional as F

from quantise import WEIGHT_LIMIT, QuantisedConvolution

STEPS = [1 + n / 128 for n in range(10)]  # in those of the calibration; multipliers stay below one
DAMPING = 1e-3  # of the mean square of the inputs
BATCH = 8  # images
POSITIONS = 16384  # of each batch, at most, that are looked at


def round_weights(twin, images):
    """Rounds the weights of a calibrated twin, by what its layers see of u8 images [N, 3, H, W]."""
    seen = {}
    handles = [
        layer.register_forward_pre_hook(lambda *call: see(seen, *call))
        for layer in twin.modules()
        if isinstance(layer, QuantisedConvolution)
    ]
    with torch.no_grad():
        for part in images.split(BATCH):
            twin(part)
        for layer, (products, input_steps) in seen.items():
            real = layer.real_weight(input_steps).double().flatten(1)
            factors, whole, added = best_rounding(real, products)
            layer.log_step.add_(factors.log())
            layer.set_whole(whole.view_as(layer.weight), added, input_steps)
    for handle in handles:
        handle.remove()


def see(seen, layer, arguments):
    """Adds up the products of a layer's inputs, a constant 1 the last of them."""
    x, input_steps = arguments[:2]
    side = layer.weight.shape[-1]
    columns = F.unfold(x, side, padding=side // 2).transpose(0, 1).flatten(1)
    columns = columns[:, :: -(-columns.shape[1] // POSITIONS)]
    columns = torch.cat([columns, torch.ones_like(columns[:1])]).double()
    before, _ = seen.get(layer, (0.0, None))
    seen[layer] = before + columns @ columns.T, input_steps


def best_rounding(weights, products):
    """Factors of the steps [O], whole weights [O, n] of such steps, what to add to the biases [O].

    `weights` [O, n] and the result are in steps; `products` [n + 1, n + 1] are sums of products of
    the inputs and of 1. No whole weights have a sum with a fraction, such as the 127.3 steps of a
    mean; of slightly larger steps one brings it close to a whole number.
    """
    order, factor = elimination(products)
    real = F.pad(weights, (0, 1))
    best, least = None, torch.full_like(real[:, 0], torch.inf)
    for step in STEPS:
        found = rounded_together(real[:, order] / step, factor)[:, order.argsort()]
        error = step * found - real
        square = ((error @ products) * error).sum(1)
        row = F.pad(found, (1, 0), value=step)
        best = row if best is None else torch.where((square < least)[:, None], row, best)
        least = torch.minimum(square, least)
    return best[:, 0], best[:, 1:-1], best[:, -1]


def elimination(products):
    """An order of the n weights and the bias, largest inputs first; the Cholesky factor for it."""
    power = products.diagonal()[:-1]
    order = torch.cat([power.argsort(descending=True), torch.tensor([len(power)])])
    damping = torch.full_like(products[0], DAMPING * power.mean().item() + 1e-9)
    inverse = torch.linalg.inv((products + damping.diag())[order][:, order])
    return order, torch.linalg.cholesky(inverse, upper=True)


def rounded_together(weights, factor):
    """Whole weights for [O, n + 1] real ones but the last, which makes good what is left."""
    rest = weights.clone()
    for n in range(len(factor) - 1):
        whole = rest[:, n].round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        error = (rest[:, n] - whole) / factor[n, n]
        rest[:, n + 1 :] -= error[:, None] * factor[n, n + 1 :]
        rest[:, n] = whole
    return rest
