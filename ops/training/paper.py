"""The architectures and rows of IODF's table: `paper-…-32` for 32×32 images, `-64` for 64×64.

As published: squeeze, then 8 couplings per level that shift a random quarter of the channels, half
of the channels go on, a network of the couplings' kind for the half that is coded. 3 levels for
32×32, 4 for 64×64, on RGB. IDF-Res: 8 residual blocks of 128 channels; IDF-Dense: 12 layers
that add 512 channels.

Deviations, each so that a model is whole numbers and codes images of any size:
* The channels of the last level have one logistic per channel, the same at every position; the
  paper has mixtures of five with free parameters per channel and position.
* Residual networks have the Int16 trunk and pre-activation blocks of `flow.py`; the paper's
  block ends in a ReLU. Equal convolutions.
* In dense networks the latents become activations first (`dense.py`).
* Pruned widths are multiples of 16.
"""

from dataclasses import dataclass

from dense import DenseShape
from flow import FlowShape, LevelShape, NetworkShape

STEPS = 8
LEVELS = {32: 3, 64: 4}
RESIDUAL = NetworkShape.uniform(128, blocks=8)
DENSE = DenseShape(depth=12, channels=512)

# Pruning leaves these widths inside the blocks of each level: most goes where most work is, as in
# the paper. The paper's own widths are not published; these keep the share of the multiplications
# that its float latencies at batch 64 imply: 1.29 of 2.93 ms for 32×32, 5.71 of 8.64 ms for 64×64.
PRUNED_WIDTHS = {32: (48, 80, 112), 64: (80, 96, 112, 128)}
SHARE_KEPT = {32: 0.44, 64: 0.66}


def paper_shape(name, networks, steps=STEPS):
    """A flow in the paper's order with the given kind of network on each level."""
    last = len(networks) - 1
    levels = tuple(
        LevelShape(network, network, groups=1, keep=0 if n == last else 2, steps=steps)
        for n, network in enumerate(networks)
    )
    return FlowShape(name, levels, colour="none", coupling="permuted")


def shapes_of_side(side):
    """The three graphs for images of a side."""
    pruned = [NetworkShape(128, (width,) * 8) for width in PRUNED_WIDTHS[side]]
    return (
        paper_shape(f"paper-idf-dense-{side}", [DENSE] * LEVELS[side]),
        paper_shape(f"paper-idf-res-{side}", [RESIDUAL] * LEVELS[side]),
        paper_shape(f"paper-pruned-{side}", pruned),
    )


SHAPES = {shape.name: shape for side in LEVELS for shape in shapes_of_side(side)}


@dataclass(frozen=True)
class Recipe:
    """A row of the table: the graph it starts from and the stages of Algorithm 1 that it takes.

    `finish` is the graph after pruning; with random weights it serves for timings, since they do
    not depend on which channels were removed.
    """

    start: FlowShape  # stage 1
    finish: FlowShape
    keep_multiplications: float = 1.0  # stages 2 and 3 prune to this share; 1: they are left out
    quantised: bool = False  # stages 4 and 5


def recipes_of_side(side):
    """The five rows for images of a side."""
    dense, residual, pruned = shapes_of_side(side)
    share = SHARE_KEPT[side]
    return {
        f"paper-idf-dense-{side}": Recipe(dense, dense),
        f"paper-idf-res-{side}": Recipe(residual, residual),
        f"paper-idf-res-8bit-{side}": Recipe(residual, residual, quantised=True),
        f"paper-pruned-{side}": Recipe(residual, pruned, share),
        f"paper-iodf-{side}": Recipe(residual, pruned, share, quantised=True),
    }


RECIPES = {name: recipe for side in LEVELS for name, recipe in recipes_of_side(side).items()}
