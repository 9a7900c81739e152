"""The curves of a run."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

RANGE = 1.5  # bits/dim shown above the lowest; the first minutes lie higher
COLOURS = {"train": "0.6", "photos64": "tab:blue", "cifar": "tab:orange", "kodak": "tab:green"}


def plot_training(logs, path, title):
    """Bits per dimension and multiplications of all stages over time, as an image file.

    `logs` maps each stage's name, in order, to its rows as in `Trainer.log`. The multiplications
    are drawn where a stage changes them.
    """
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    curves, costs, minutes = {}, [], 0.0
    for stage, log in logs.items():
        axes.annotate(stage, (minutes, 1.01), xycoords=("data", "axes fraction"), fontsize=8)
        axes.axvline(minutes, color="0.85", lw=1)
        for seconds, _, _, train, measured, cost in log:
            time = minutes + seconds / 60
            for name, value in {"train": train, **measured}.items():
                curves.setdefault(name, []).append((time, value))
            costs.append((time, cost))
        minutes += log[-1][0] / 60 if log else 0
    for name, curve in curves.items():
        axes.plot(*zip(*curve), color=COLOURS.get(name), label=name, marker=".", ms=4)
    axes.set(xlabel="minutes", ylabel="bits per dimension")
    axes.set_title(title, pad=16)
    axes.grid(alpha=0.3)
    if len({round(cost, 6) for _, cost in costs}) > 1:
        right = axes.twinx()
        right.plot(*zip(*costs), color="tab:red", ls=":", drawstyle="steps-post")
        right.set_ylabel("kMAC per byte (dotted)", color="tab:red")
        right.set_ylim(bottom=0)
    if curves:
        lowest = min(value for curve in curves.values() for _, value in curve)
        axes.set_ylim(top=min(lowest + RANGE, axes.get_ylim()[1]))
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
