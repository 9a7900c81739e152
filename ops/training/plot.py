"""The loss curves of a run."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

FIRST_LIMIT = 5.0  # bits/dim; the first minutes lie above it


def plot_training(float_log, quantised_log, path, title):
    """Training and evaluation bits per dimension of both stages over time, as an image file."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    colours = {"train": "0.6", "photos64": "tab:blue", "cifar": "tab:orange", "kodak": "tab:green"}
    begin = float_log[-1][0] if float_log else 0
    for log, offset, style in ((float_log, 0, "-"), (quantised_log, begin, "--")):
        minutes = [(row[0] + offset) / 60 for row in log]
        curves = {"train": [row[3] for row in log]}
        for name in log[0][4] if log else ():
            curves[name] = [row[4][name] for row in log]
        for name, curve in curves.items():
            label = name if style == "-" else None
            axes.plot(minutes, curve, style, color=colours.get(name), label=label, marker=".", ms=4)
    if quantised_log:
        axes.axvline(begin / 60, color="0.8", lw=1)
    axes.set(xlabel="minutes (solid: float, dashed: quantised)", ylabel="bits per dimension", title=title)
    axes.set_ylim(top=FIRST_LIMIT)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
