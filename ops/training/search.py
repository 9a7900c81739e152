"""Compares architectures at equal multiplications and equal images: a row for each variant.

`python search.py --data DATA --run RUN [--images N] [VARIANT …]` trains each variant for N crops of
32×32 pixels and measures it on tiles of the same size, so that no border is foreign to it. A
variant changes one thing of `base`, which is `fast`; widths are chosen for about equal
multiplications. Finished variants are kept in RUN and not trained again.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from data import CropSampler, evaluation_sets, tiles, training_images
from flow import (
    LOG_SCALE_STEP,
    SHAPES,
    Flow,
    NetworkShape,
    StaticPrior,
    code_length,
    latent_nats,
    prior_units,
    same_levels,
    squeeze,
    to_latents,
    unsqueeze,
)
from trainer import Schedule, Trainer

CROP, BATCH, RATE = 32, 64, 2e-3


def levels(
    coupling=16, prior=48, groups=(3, 3, 3, 4), keep=1, steps=4, blocks=1, shortcut=True
):
    """Equal networks on all levels."""
    networks = [NetworkShape.uniform(width, blocks, shortcut) for width in (coupling, prior)]
    return same_levels(*networks, groups, steps, keep)


class CrossLevelFlow(Flow):
    """A flow whose priors see the coarser level's features as well as its pixels.

    What the last prior of a level computed is raised by a 1×1 convolution to the four finer
    positions and added to the trunks of the priors of the level above. Only float: no operation of
    the model file does it.
    """

    def __init__(self, shape):
        super().__init__(shape)
        widths = [level.prior.channels for level in shape.levels]
        self.raised = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in zip(widths, widths[1:])
        )
        for raised in self.raised:
            nn.init.zeros_(raised.weight)
            nn.init.zeros_(raised.bias)

    def passes(self, images):
        z, latents = to_latents(images, self.shape.colour), []
        for level in self.levels:
            latents.append(level.couple(squeeze(z)))
            z = latents[-1][:, : level.plan.keep]
        context = 0.0
        for l, (level, z) in reversed(list(enumerate(zip(self.levels, latents)))):
            begin = level.plan.keep
            for network, size in zip(level.priors, level.plan.groups):
                known, values = z[:, :begin], z[:, begin : begin + size]
                if isinstance(network, StaticPrior):
                    yield values, network(known.shape[0], *known.shape[2:])
                else:
                    features = network.features(known, context)
                    yield values, network.answer(known, features)
                begin += size
            if l > 0:
                context = unsqueeze(self.raised[l - 1](features))

    def networks(self):
        yield from super().networks()
        for l, raised in enumerate(self.raised):
            yield f"level{l + 1}.raised", raised


class MixtureFlow(Flow):
    """A flow whose priors answer with two logistics for each latent, and the weight between them.

    The second starts e times as wide. Only float: coded symbols have one logistic.
    """

    def __init__(self, shape):
        super().__init__(shape)
        for level, level_shape in zip(self.levels, shape.levels):
            known = level.plan.keep
            for n, size in enumerate(level.plan.groups):
                if known > 0:
                    gain, offset = prior_units(size)
                    wider = offset + torch.arange(2).repeat_interleave(size) / LOG_SCALE_STEP
                    gains = torch.cat([gain, gain, torch.ones(size)])
                    offsets = torch.cat([offset, wider, torch.zeros(size)])
                    level.priors[n] = level_shape.prior.network(known, 5 * size, gains, offsets)
                known += size

    def forward(self, images):
        nats = 0
        for values, parameters in self.passes(images):
            if parameters.shape[1] == 2 * values.shape[1]:
                nats = nats + code_length(values, parameters)
                continue
            size = values.shape[1]
            one, two, weight = parameters.split([2 * size, 2 * size, size], 1)
            likelihoods = (
                F.logsigmoid(weight) - latent_nats(values, one),
                F.logsigmoid(-weight) - latent_nats(values, two),
            )
            nats = nats - torch.logaddexp(*likelihoods).sum((1, 2, 3))
        return nats / math.log(2)


# What each variant changes of `base`, and the change.
VARIANTS = {
    "base": ("4 levels, 4 liftings of 16 channels, 3 priors of 48, shortcuts, YCoCg-R", {}),
    "no-shortcut": ("no shortcuts, so no wavelet", {"levels": levels(shortcut=False)}),
    "permuted": ("random permutations instead of sub-pixel lifting", {"coupling": "permuted"}),
    "unpermuted": ("permutations, undone after the couplings (IDF++)", {"coupling": "unpermuted"}),
    "rgb": ("no colour transform", {"colour": "none"}),
    "levels-3": ("3 levels", {"levels": levels(groups=(3, 3, 4))}),
    "half": ("half of the channels go on, 2 groups, 16/54", {
        "levels": levels(prior=54, groups=(2, 2, 2, 4), keep=2),
    }),
    "steps-2": ("2 couplings of 24 channels", {"levels": levels(coupling=24, steps=2)}),
    "steps-8": ("8 couplings of 10 channels", {"levels": levels(coupling=10, steps=8)}),
    "steps-0": ("no couplings, priors of 52", {"levels": levels(prior=52, steps=0)}),
    "couplings": ("multiplications to the couplings, 40/24", {"levels": levels(40, 24)}),
    "groups-1": ("1 group, prior of 84", {"levels": levels(prior=84, groups=(1, 1, 1, 2))}),
    "groups-6": ("6 groups, priors of 34", {"levels": levels(prior=34, groups=(6, 6, 6, 8))}),
    "blocks-2": ("2 blocks a network, 12/34", {"levels": levels(12, 34, blocks=2)}),
    "cross-level": ("features of the coarser level in the priors' trunks", {}),
    "mixture": ("two logistics a latent", {}),
}
FLOWS = {"cross-level": CrossLevelFlow, "mixture": MixtureFlow}


def flow_of(variant):
    """The untrained flow of a variant."""
    return FLOWS.get(variant, Flow)(replace(SHAPES["fast"], **VARIANTS[variant][1]))


def evaluation(root):
    """The evaluation sets as tiles of 32×32 pixels."""
    sets = evaluation_sets(root)
    return {
        name: torch.cat([torch.from_numpy(tiles(i.transpose(1, 2, 0), CROP)) for i in images]).numpy()
        for name, images in sets.items()
    }


def measure(variant, options, sampler, sets):
    """The row of a variant: what it cost and its bits per dimension on every set."""
    folder = Path(options.run) / variant
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    schedule = Schedule(
        0, RATE, small_crop=CROP, large_crop=CROP, small_batch=BATCH, image_budget=options.images
    )
    flow = flow_of(variant).to(memory_format=torch.channels_last)
    trainer = Trainer(
        flow, schedule, sampler, sets, folder, "bf16", options.seed, compiled=options.compile
    )
    trainer.resume()
    trainer.run(options.checkpoint_minutes)
    row = {
        "kiloMultiplicationsPerByte": trainer.cost(),
        "minutes": trainer.seconds / 60,
        "bitsPerDimension": trainer.evaluate(),
    }
    result.write_text(json.dumps(row))
    return row


def table(rows):
    """Rows {variant: row} as a Markdown table; differences are to `base` where it is there."""
    sets = list(next(iter(rows.values()))["bitsPerDimension"])
    base = rows.get("base", {"bitsPerDimension": {}})["bitsPerDimension"]
    lines = [
        f"| variant | change | kMAC/byte | {' | '.join(sets)} |",
        "|---|---|--:|" + "--:|" * len(sets),
    ]
    for variant, row in rows.items():
        cells = []
        for name, bits in row["bitsPerDimension"].items():
            change = f" ({100 * (bits / base[name] - 1):+.1f} %)" if name in base else ""
            cells.append(f"{bits:.3f}{change if variant != 'base' else ''}")
        cost = f"{row['kiloMultiplicationsPerByte']:.1f}"
        lines.append(f"| `{variant}` | {VARIANTS[variant][0]} | {cost} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--data", required=True, help="folder with train/ and valid/")
    parser.add_argument("--run", required=True, help="folder of checkpoints")
    parser.add_argument("--images", type=int, default=140_000, help="crops (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile the steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint-minutes", type=float, default=3.0)
    options = parser.parse_args()
    unknown = set(options.variants) - set(VARIANTS)
    if unknown:
        parser.error(f"no variant {', '.join(sorted(unknown))}; known: {', '.join(VARIANTS)}")
    torch.set_num_threads(options.threads)
    sampler = CropSampler(training_images(options.data), CROP)
    sets = evaluation(options.data)
    rows = {}
    for variant in options.variants:
        rows[variant] = measure(variant, options, sampler, sets)
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
