"""Fine-tunes a shipped model on your own images.

Trains the integer model itself, with straight-through gradients, on a sample of the folder; every
tenth image is held out. Of the model at the start and those measured on the way, the one with the
shortest code of the held-out images is written, so the result is never worse than the start.
Ctrl-C writes the best so far; the same command with --force continues.
"""

import argparse
import hashlib
import json
import os
import shutil
from pathlib import Path

try:
    import torch
    from safetensors import SafetensorError, safe_open
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is missing; ops/train installs it") from None

from data import CropSampler
from export import export, integer_model
from folder import HELD_OUT_EVERY, sample_folder
from importer import import_flow
from integer import IntegerModel
from train import commit, stopped_by_signals
from trainer import Schedule, Trainer

MODELS = Path(__file__).resolve().parents[2] / "worker" / "models"
RATE = 3e-4
SMALL_CROP = 64  # until the last third; then the largest that the images hold
PIXELS_PER_STEP = 2**15
LARGEST_BATCH = 64
CHECKPOINT_MINUTES = 3.0


def arguments(words=None):
    parser = argparse.ArgumentParser(prog="ops/train", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder of PNG, PNM, JPEG or WebP")
    parser.add_argument(
        "--from", required=True, dest="start",
        help="a model file, or one of: " + ", ".join(shipped()),
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="model file to write")
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")
    parser.add_argument("--minutes", type=float, default=60, help="of training (default: 60)")
    parser.add_argument("--name", help="profile name (default: the start's, with -tuned)")
    parser.add_argument("--run", type=Path, help="folder of checkpoints (default: OUTPUT.run)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="(default: PyTorch's own choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser.parse_args(words)


def shipped():
    """Names of the models in the repository."""
    return sorted(path.stem for path in MODELS.glob("*.safetensors"))


class Start:
    """The model file that the fine-tuning starts from."""

    def __init__(self, name):
        self.path = Path(name) if Path(name).is_file() else MODELS / f"{name}.safetensors"
        if not self.path.is_file():
            raise SystemExit(f"--from {name}: neither a file nor one of {', '.join(shipped())}")
        self.id = hashlib.sha256(self.path.read_bytes()).hexdigest()
        try:
            self.model = IntegerModel.load(self.path)
            with safe_open(self.path, "np") as file:
                metadata = file.metadata()
            self.profile = metadata["flowpack.profile"]
            self.provenance = json.loads(metadata["flowpack.provenance"])
            self.flow = import_flow(self.model, self.profile)
        except (KeyError, OSError, SafetensorError, TypeError, ValueError) as error:
            raise SystemExit(f"--from {self.path}: cannot be fine-tuned: {error}") from error

    @property
    def unit(self):
        """Sides of images are extended to multiples of this."""
        return 2 ** len(self.model.flow["levels"])

    def summary(self):
        """What a model that descends from this one says about it."""
        kept = {k: self.provenance[k] for k in ("data", "licence") if k in self.provenance}
        return {"id": self.id, "profile": self.profile, **kept}


class FineTuner(Trainer):
    """A trainer that keeps the best averaged model it measured, as a model file in its folder."""

    def __init__(self, flow, schedule, sampler, held_out, folder, seed):
        super().__init__(flow, schedule, sampler, {"held-out": held_out}, folder, "fp32", seed)
        self.best_file = self.folder / "best.safetensors"
        self.best = self.measured()["held-out"]
        if self.best_file.exists():
            self.best = read_provenance(self.best_file)["heldOut"]

    def measured(self):
        return super().evaluate()

    def evaluate(self):
        """Bits per dimension of the averaged flow; keeps it if it is the best."""
        measured = self.measured()
        if measured["held-out"] < self.best:
            self.keep(measured["held-out"])
        return measured

    def keep(self, bits):
        model = self.with_average(lambda: integer_model(self.flow))
        seen = {"steps": self.step, "images": self.images, "heldOut": bits}
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.best_file.with_suffix(".tmp")
        export(model, temporary, "best", seen)
        os.replace(temporary, self.best_file)
        self.best = bits

    def train(self):
        """Trains until the time is spent, a signal comes or nothing is finite any more."""
        with stopped_by_signals(self):
            try:
                self.run(CHECKPOINT_MINUTES)
            except FloatingPointError as error:
                print(error)
            if self.stopping:
                print("stopped; measuring the last model", flush=True)
                self.evaluate()


def read_provenance(path):
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["flowpack.provenance"])


def schedule_for(crop, minutes):
    """Crops of at most SMALL_CROP pixels a side, of `crop` in the last third; equal work a step."""
    small = min(SMALL_CROP, crop)
    batches = {s: min(LARGEST_BATCH, max(1, PIXELS_PER_STEP // s**2)) for s in (small, crop)}
    return Schedule(
        minutes, RATE, small_crop=small, large_crop=crop,
        small_batch=batches[small], large_batch=batches[crop],
    )


def prepare_run(folder, start, options):
    """Makes the run folder, or refuses one of another fine-tuning."""
    identity = {
        "start": start.id, "data": str(options.data.resolve()), "seed": options.seed,
    }
    record = folder / "run.json"
    if record.exists() and json.loads(record.read_text()) != identity:
        raise SystemExit(f"{folder}: belongs to another model, data or seed; name another --run")
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(identity))


def check(options):
    """Refuses what would fail only after the training."""
    if not options.data.is_dir():
        raise SystemExit(f"--data {options.data}: not a folder")
    if not options.output.resolve().parent.is_dir():
        raise SystemExit(f"-o {options.output}: its folder does not exist")
    if options.output.exists() and not options.force:
        raise SystemExit(f"-o {options.output}: exists; --force replaces it")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(f"--device {options.device}: PyTorch finds no GPU")


def describe(sample):
    """Prints what is trained on and measured, and what of the folder is not coded by a flow."""
    pixels = sum(i.shape[0] * i.shape[1] for i in sample.training)
    print(
        f"training on {len(sample.training)} images ({pixels / 1e6:.1f} megapixels) in crops of "
        f"up to {sample.crop}×{sample.crop}; held out: every {HELD_OUT_EVERY}th image, of which "
        f"{len(sample.held_out)} crops of {sample.held_out_images} images are measured"
    )
    if sample.unusable:
        print(f"skipped {len(sample.unusable)} unusable files, the first: {sample.unusable[0]}")
    if sample.stored:
        print(
            f"note: Flowpack stores JPEG and WebP files as they are; for {sample.stored} of these "
            "files this model changes nothing (the flow codes PNG and PNM)"
        )


def write_output(trainer, start, before, options):
    """Writes the best model and prints what it gained; the start itself if nothing was better."""
    held_out = trainer.evaluation["held-out"]
    best = IntegerModel.load(trainer.best_file) if trainer.best_file.exists() else start.model
    after = best.bits_per_dimension(held_out)
    temporary = options.output.with_name(options.output.name + ".tmp")
    if after < before:
        seen = read_provenance(trainer.best_file)
        measured = {"before": round(before, 4), "after": round(after, 4)}
        export(best, temporary, profile(start, options), provenance(start, options, seen, measured))
        print(
            f"held-out {before:.4f} → {after:.4f} bits/dim ({after / before - 1:+.2%}), "
            f"{seen['images']} crops seen in {seen['steps']} steps"
        )
    else:
        shutil.copyfile(start.path, temporary)
        print(f"held-out {before:.4f} bits/dim: no gain, so the output is the model of the start")
    os.replace(temporary, options.output)
    print(f"wrote {options.output}; use it: flowpack compress DIR -o OUT --model {options.output}")


def profile(start, options):
    return options.name or start.profile.removesuffix("-tuned") + "-tuned"


def provenance(start, options, seen, measured):
    """What stands in the model file; of the user's folder only its name."""
    data = options.data.resolve().name
    return {
        "data": data,
        "parent": start.summary(),
        "seed": options.seed,
        "steps": seen["steps"],
        "images": seen["images"],
        "commit": commit(),
        "command": f"ops/train --data {data} --from {start.profile} --minutes {options.minutes:g} "
        f"--seed {options.seed}",
        "bitsPerDimension": {"heldOut": measured},
    }


def fine_tune(options):
    """The whole of it; checks come first."""
    check(options)
    start = Start(options.start)
    try:
        sample = sample_folder(options.data, start.unit, options.seed)
    except ValueError as error:
        raise SystemExit(f"--data {error}") from error
    describe(sample)
    folder = options.run or options.output.with_name(options.output.name + ".run")
    prepare_run(folder, start, options)
    trainer = FineTuner(
        start.flow.float().to(options.device, memory_format=torch.channels_last),
        schedule_for(sample.crop, options.minutes),
        CropSampler(sample.training, sample.crop, {1: 1.0}, grey=0, device=options.device),
        sample.held_out, folder, options.seed,
    )
    before = start.model.bits_per_dimension(sample.held_out)
    print(
        f"start: {start.profile}, {before:.4f} bits/dim on the held-out images "
        f"({trainer.best:.4f} by the estimate below)", flush=True,
    )
    if trainer.resume():
        print(f"continuing {folder} after {trainer.seconds / 60:.1f} minutes", flush=True)
    trainer.train()
    write_output(trainer, start, before, options)


def main():
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    fine_tune(options)


if __name__ == "__main__":
    main()
