"""Trains, prunes, quantises and exports a flow: `python train.py STAGE|all …`.

The stages are those of IODF's Algorithm 1. Each continues from its checkpoint in the run folder,
or starts from the averaged weights of the stage before. Ctrl-C or SIGTERM writes a checkpoint and
ends.
"""

import argparse
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data import CropSampler, evaluation_sets, training_images
from export import export, integer_model
from flow import SHAPES, Flow
from folder import crop_side, sample_folder
from paper import RECIPES, Recipe
from plot import plot_training
from prune import CHANNEL_GROUP, PruningTrainer, flow_like, gated, pruned
from quantise import QuantisedConvolution, QuantisedNetwork, integer_twin, quantised
from rounding import round_weights
from trainer import Schedule, Trainer, bits_per_dimension, kilo_multiplications

CALIBRATION_CROPS = 48
SMALL_CROP = 32
DATA = "CID22 512×512 (155), CLIC 2025 validation (31)"
LICENCE = "CID22: CC BY-SA 4.0 (Cloudinary); CLIC: Unsplash licence"
MACHINE_OPTIONS = ("stage", "data", "run", "model", "threads", "device", "checkpoint_minutes")


@dataclass(frozen=True)
class Stage:
    """What is taken unless the command says otherwise; the rate is the peak."""

    minutes: float
    rate: float
    text: str


STAGES = {
    "float": Stage(60, 2e-3, "float flow"),
    "gate": Stage(15, 1e-3, "binary gates until the wanted share of the multiplications remains"),
    "tune": Stage(15, 1e-3, "fine-tuning without the channels that the gates shut"),
    "activations": Stage(5, 3e-4, "fine-tuning with quantised activations"),
    "quantise": Stage(15, 3e-4, "fine-tuning with quantised activations and weights"),
}
ON_INTEGERS = ("activations", "quantise")


def parser():
    result = argparse.ArgumentParser(description=__doc__)
    add = result.add_argument
    add("stage", choices=(*STAGES, "export", "all"))
    add("--data", required=True, help="folder with train/ and valid/, or any folder of images")
    add("--run", required=True, help="folder of checkpoints, outside the repository")
    add("--model", help="file to export (RUN/SHAPE.safetensors)")
    add("--shape", default="fast", choices=sorted({*SHAPES, *RECIPES}))
    for name, stage in STAGES.items():
        prefix = "" if name == "float" else f"{name}-"
        text = f"{stage.text} (%(default)s)"
        add(f"--{prefix}minutes", type=float, default=stage.minutes, help=text)
        add(f"--{prefix}rate", type=float, default=stage.rate, help="its peak rate (%(default)s)")
    add("--images", type=int, help="crops that the float stage sees, in place of its minutes")
    add(
        "--keep-multiplications", type=float, metavar="SHARE",
        help="what pruning leaves; 1 leaves out gate and tune (1, or that of the paper's row)",
    )
    add(
        "--channel-group", type=int, default=CHANNEL_GROUP,
        help="widths that remain are multiples of this (%(default)s)",
    )
    add("--batch", type=int, default=32, help=f"crops of {SMALL_CROP} pixels (%(default)s)")
    add("--crop", type=int, default=64, help="side of the crops in the last third (%(default)s)")
    add(
        "--precision", default="bf16", choices=("bf16", "fp32"),
        help="of the convolutions; in quantised stages of the gradients",
    )
    add("--compile", action="store_true", help="compile the steps of the float stages")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    add("--device", default="cpu", help="cpu or cuda")
    add("--checkpoint-minutes", type=float, default=3.0)
    return result


def load_images(root, unit, seed):
    """(training images, evaluation sets, what they are) of train/ and valid/, or of any folder."""
    if (Path(root) / "train").is_dir():
        return training_images(root), evaluation_sets(root), {"data": DATA, "licence": LICENCE}
    sample = sample_folder(root, unit, seed)
    name = Path(root).resolve().name
    return sample.training, {"held-out": sample.held_out}, {"data": name}


class Run:
    """The stages of one run; data are loaded once."""

    def __init__(self, options):
        self.options, self.folder = options, Path(options.run)
        shape = SHAPES.get(options.shape)
        recipe = RECIPES.get(options.shape) or Recipe(shape, shape, quantised=True)
        self.shape, self.quantised = recipe.start, recipe.quantised
        self.share = options.keep_multiplications or recipe.keep_multiplications
        unit = 2 ** len(self.shape.levels)
        images, self.evaluation, self.source = load_images(options.data, unit, options.seed)
        self.crop = min(options.crop, crop_side(images, unit))
        self.sampler = CropSampler(images, self.crop, device=options.device)

    def stages(self):
        """The names of the stages that this run takes, in order."""
        pruning = ["gate", "tune"] if self.share < 1 else []
        quantising = ["activations", "quantise"] if self.quantised else []
        return ["float", *pruning, *quantising]

    def before(self, stage):
        """The name of the stage before; raises SystemExit if the run does not take this one."""
        if stage not in self.stages():
            raise SystemExit(f"this run's stages are: {', '.join(self.stages())}")
        return self.stages()[self.stages().index(stage) - 1]

    def state(self, stage):
        """The stage's checkpoint, or None."""
        path = self.folder / stage / "checkpoint.pt"
        if not path.exists():
            return None
        return torch.load(path, map_location=self.options.device, weights_only=False)

    def skeleton(self, stage, state):
        """A flow that can load the state dict of the stage."""
        flow = flow_like(self.shape, state)
        if stage == "gate":
            return gated(flow)
        if stage in ON_INTEGERS:
            return with_rounding(integer_twin(flow), stage == "quantise")
        return flow

    def averaged(self, stage):
        """The stage's flow with averaged weights; raises SystemExit without a checkpoint."""
        state = self.state(stage)
        if state is None:
            raise SystemExit(f"no checkpoint of the stage {stage} in the run folder")
        flow = self.skeleton(stage, state["flow"]).to(self.options.device)
        flow.load_state_dict(state["flow"])
        with torch.no_grad():
            for parameter, average in zip(flow.parameters(), state["average"], strict=True):
                parameter.copy_(average)
        return flow

    def first_flow(self, stage):
        """The flow that the stage starts with."""
        if stage == "float":
            return Flow(self.shape)
        before = self.averaged(self.before(stage))
        if stage == "gate":
            return gated(before)
        if stage == "tune":
            return pruned(before, self.share, self.options.channel_group)
        generator = np.random.default_rng(self.options.seed)
        crops = self.sampler.crops(CALIBRATION_CROPS, self.crop, generator)
        crops = crops.to(self.options.device)
        if stage == "quantise":
            round_weights(before, crops)
            return with_rounding(before, True)
        return with_rounding(quantised(before, crops), False)

    def schedule(self, stage):
        options, on_integers = self.options, stage in ON_INTEGERS
        prefix = "" if stage == "float" else f"{stage}_"
        return Schedule(
            getattr(options, f"{prefix}minutes"), getattr(options, f"{prefix}rate"),
            small_crop=min(SMALL_CROP, self.crop), large_crop=self.crop,
            large_from=0 if on_integers else 2 / 3,
            small_batch=options.batch,
            large_batch=max(1, options.batch // (4 if on_integers else 2)),
            image_budget=options.images if stage == "float" else None,
        )

    def trainer(self, stage):
        """The stage's trainer, at its checkpoint or at its start."""
        options, state = self.options, self.state(stage)
        flow = self.skeleton(stage, state["flow"]) if state else self.first_flow(stage)
        flow = flow.to(options.device, memory_format=torch.channels_last)
        on_integers = stage in ON_INTEGERS
        if on_integers:
            QuantisedNetwork.low_precision_backward = options.precision == "bf16"
        arguments = (
            self.schedule(stage), self.sampler, self.evaluation, self.folder / stage,
            "fp32" if on_integers else options.precision,
            options.seed + list(STAGES).index(stage), options.compile and not on_integers,
        )
        if stage == "gate":
            trainer = PruningTrainer(flow, self.share, options.channel_group, *arguments)
        else:
            trainer = Trainer(flow, *arguments)
        trainer.resume()
        return trainer

    def train(self, stage):
        """Trains a stage to its end; SystemExit(0) where a signal ends it."""
        trainer = self.trainer(stage)
        print(f"{stage}: {trainer.cost():.2f} kMAC/byte", flush=True)
        with stopped_by_signals(trainer):
            trainer.run(self.options.checkpoint_minutes)
        self.plot(self.folder / "training.png")
        if trainer.stopping:
            print(f"stopped after {trainer.seconds / 60:.1f} minutes; the same command continues")
            raise SystemExit(0)

    def logs(self):
        """The log of every stage that has a checkpoint."""
        states = {stage: self.state(stage) for stage in self.stages()}
        return {stage: state["log"] for stage, state in states.items() if state}

    def plot(self, path):
        plot_training(self.logs(), path, self.options.shape)

    def export(self):
        """Writes the model file and beside it the curves; prints the bits per dimension."""
        if not self.quantised:
            raise SystemExit(f"{self.options.shape} is a float model; it has no file of integers")
        flow = self.averaged("quantise")
        model = integer_model(flow)
        measured = {stage: log[-1][4] for stage, log in self.logs().items() if log}
        measured["quantise"] = {
            k: bits_per_dimension(flow, v) for k, v in self.evaluation.items()
        }
        measured["integer"] = {k: model.bits_per_dimension(v) for k, v in self.evaluation.items()}
        path = Path(self.options.model or self.folder / f"{self.options.shape}.safetensors")
        export(model, path, self.options.shape, self.provenance(flow, measured))
        self.plot(path.with_name(f"{path.stem}-training.png"))
        for stage, sets in measured.items():
            print(f"{stage:12}", "  ".join(f"{k} {v:.4f}" for k, v in sets.items()))
        cost = kilo_multiplications(flow)
        print(f"wrote {path}: {path.stat().st_size} bytes, {cost:.2f} kMAC/byte")

    def provenance(self, flow, measured):
        states = {stage: self.state(stage) for stage in self.stages()}
        return {
            **self.source,
            "seed": self.options.seed,
            "steps": {stage: state["step"] for stage, state in states.items()},
            "images": {stage: state["images"] for stage, state in states.items()},
            "commit": commit(),
            "command": command(self.options),
            "kiloMultiplicationsPerByte": kilo_multiplications(flow),
            "bitsPerDimension": {
                stage: {k: round(v, 4) for k, v in sets.items()} for stage, sets in measured.items()
            },
        }


def with_rounding(twin, rounded):
    """The integer twin, its weights rounded (and their steps learned) or not."""
    for layer in twin.modules():
        if isinstance(layer, QuantisedConvolution):
            layer.round_weights = rounded
            layer.log_step.requires_grad_(rounded)
    return twin


@contextmanager
def stopped_by_signals(trainer):
    """SIGINT and SIGTERM stop the trainer after its present step."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, trainer.stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers):
            signal.signal(number, handler)


def commit():
    """The revision of the training code, or "unknown" outside a repository."""
    found = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def command(options):
    """The command that repeats the run, without this machine's paths."""
    defaults, words = parser(), ["python ops/training/train.py all --data DATA --run RUN"]
    for name, value in vars(options).items():
        if name in MACHINE_OPTIONS or value == defaults.get_default(name) and name != "shape":
            continue
        words.append(f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}"))
    return " ".join(words)


def main(words=None):
    options = parser().parse_args(words)
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    run = Run(options)
    everything = options.stage == "all"
    for stage in run.stages() if everything else [options.stage]:
        if stage != "export":
            run.train(stage)
    if options.stage == "export" or everything and run.quantised:
        run.export()


if __name__ == "__main__":
    main()
