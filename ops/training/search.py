"""Compares architectures at equal multiplications and equal images: a row for each variant.

`python search.py --data DATA --run RUN [--images N] [VARIANT …]` trains each variant for N crops of
32×32 pixels and measures it on tiles of the same size, so that no border is foreign to it. A
variant changes one thing of `base`, which is `fast`; widths are chosen for about equal
multiplications. Finished variants are kept in RUN and not trained again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from data import CropSampler, evaluation_sets, tiles, training_images
from flow import SHAPES, Flow, NetworkShape, same_levels
from trainer import Schedule, Trainer

CROP, BATCH, RATE = 32, 64, 2e-3


def levels(
    coupling=16, prior=48, groups=(3, 3, 3, 4), keep=1, steps=4, blocks=1, shortcut=True
):
    """Equal networks on all levels."""
    networks = [NetworkShape.uniform(width, blocks, shortcut) for width in (coupling, prior)]
    return same_levels(*networks, groups, steps, keep)


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
}


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
    shape = replace(SHAPES["fast"], **VARIANTS[variant][1])
    schedule = Schedule(
        0, RATE, small_crop=CROP, large_crop=CROP, small_batch=BATCH, image_budget=options.images
    )
    flow = Flow(shape).to(memory_format=torch.channels_last)
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
