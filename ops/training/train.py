"""Trains, quantises and exports a flow: `python train.py float|quantise|export|all …`.

Every stage continues from its checkpoint in the run folder, or starts from the stage before.
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
import torch

from data import CropSampler, evaluation_sets, training_images
from export import export, integer_model
from flow import SHAPES, Flow
from plot import plot_training
from quantise import QuantisedNetwork, quantised
from trainer import Schedule, Trainer, bits_per_dimension

CALIBRATION_CROPS = 48
DATA = "CID22 512×512 (155), CLIC 2025 validation (31)"
LICENCE = "CID22: CC BY-SA 4.0 (Cloudinary); CLIC: Unsplash licence"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("float", "quantise", "export", "all"))
    parser.add_argument("--data", required=True, help="folder with train/ and valid/")
    parser.add_argument("--run", required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--model", default="worker/models/fast.safetensors", help="file to export")
    parser.add_argument("--shape", default="fast", choices=sorted(SHAPES))
    parser.add_argument("--minutes", type=float, default=60, help="of the float stage")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak rate of the float stage")
    parser.add_argument("--quantise-minutes", type=float, default=15)
    parser.add_argument("--quantise-rate", type=float, default=3e-4)
    parser.add_argument(
        "--precision", default="bf16", choices=("bf16", "fp32"),
        help="of the float stage's convolutions and the quantised stage's gradients",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


class Stages:
    """The stages of one run; data are loaded once."""

    def __init__(self, options):
        self.options, self.run = options, Path(options.run)
        self.evaluation = evaluation_sets(options.data)
        self.sampler = CropSampler(training_images(options.data), largest_crop=64)

    def float_trainer(self):
        options = self.options
        flow = Flow(SHAPES[options.shape]).to(options.device, memory_format=torch.channels_last)
        return Trainer(
            flow, Schedule(options.minutes, options.rate), self.sampler, self.evaluation,
            self.run / "float", options.precision, options.seed,
        )

    def quantised_trainer(self):
        """A trainer whose flow is calibrated from the float stage's average."""
        options, trainer = self.options, self.float_trainer()
        if not trainer.resume():
            raise SystemExit("no checkpoint of the float stage in the run folder")
        trainer.exchange()
        crops = self.sampler.batch(CALIBRATION_CROPS, 64, np.random.default_rng(options.seed))
        flow = quantised(trainer.flow, torch.from_numpy(crops).to(options.device))
        QuantisedNetwork.low_precision_backward = options.precision == "bf16"
        schedule = Schedule(
            options.quantise_minutes, options.quantise_rate, large_from=0, large_batch=8
        )
        return Trainer(
            flow, schedule, self.sampler, self.evaluation, self.run / "quantised",
            "fp32", options.seed + 1,
        )

    def train(self, trainer):
        trainer.resume()
        trainer.run()

    def export(self):
        """Writes the model file and the plot beside it, with the bits per dimension of each stage."""
        options = self.options
        float_trainer, trainer = self.float_trainer(), self.quantised_trainer()
        float_trainer.resume()
        trainer.resume()
        trainer.exchange()
        model = integer_model(trainer.flow)
        measured = {
            "float": float_trainer.evaluate(),
            "fakeQuantised": {
                k: bits_per_dimension(trainer.flow, v) for k, v in self.evaluation.items()
            },
            "integer": {k: model.bits_per_dimension(v) for k, v in self.evaluation.items()},
        }
        provenance = {
            "data": DATA,
            "licence": LICENCE,
            "seed": options.seed,
            "steps": {"float": float_trainer.step, "quantised": trainer.step},
            "images": {"float": float_trainer.images, "quantised": trainer.images},
            "commit": commit(),
            "command": command(options),
            "kiloMultiplicationsPerByte": float_trainer.flow.multiplications_per_byte() / 1e3,
            "bitsPerDimension": {
                stage: {k: round(v, 4) for k, v in sets.items()} for stage, sets in measured.items()
            },
        }
        export(model, options.model, options.shape, provenance)
        plot = Path(options.model).with_name(f"{options.shape}-training.png")
        plot_training(float_trainer.log, trainer.log, plot, options.shape)
        for stage, sets in provenance["bitsPerDimension"].items():
            print(f"{stage:14}", "  ".join(f"{k} {v:.4f}" for k, v in sets.items()))
        print(f"wrote {options.model}: {Path(options.model).stat().st_size} bytes")


def commit():
    """The revision of the training code, or "unknown" outside a repository."""
    found = subprocess.run(
        ["git", "-C", Path(__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


def command(options):
    """The command that repeats the run, without this machine's paths."""
    kept = ("shape", "minutes", "rate", "quantise_minutes", "quantise_rate", "precision", "seed")
    flags = " ".join(f"--{k.replace('_', '-')} {getattr(options, k)}" for k in kept)
    return f"python ops/training/train.py all --data DATA --run RUN {flags}"


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    stages = Stages(options)
    if options.stage in ("float", "all"):
        stages.train(stages.float_trainer())
    if options.stage in ("quantise", "all"):
        stages.train(stages.quantised_trainer())
    if options.stage in ("export", "all"):
        stages.export()


if __name__ == "__main__":
    main()
