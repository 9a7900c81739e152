"""The training loop that all stages share: timed, resumable, averaged."""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from muon import muon_and_adam

# The momentum of dead channels decays into denormals, which made steps three times slower. Threads
# take the setting from the thread that starts them, so it comes before the first parallel operation.
torch.set_flush_denormal(True)

WARM_UP_STEPS = 200
AVERAGE_DECAY = 0.999
GRADIENT_LIMIT = 1.0
LOWEST_RATE = 0.01  # of the peak, at the end of the schedule
SKIPPED_LIMIT = 20  # steps in succession without a finite loss and gradient end the training


@dataclass(frozen=True)
class Schedule:
    """Learning rate, crop and batch as functions of the progress; survives interruptions.

    The progress is the share of `minutes` trained, or, where `image_budget` is given, the share
    of that many crops seen.
    """

    minutes: float
    peak_rate: float
    small_crop: int = 32
    large_crop: int = 64
    large_from: float = 2 / 3  # of the progress
    small_batch: int = 32
    large_batch: int = 16
    image_budget: int | None = None

    def progress(self, seconds, images=0):
        if self.image_budget is not None:
            return min(1.0, images / self.image_budget)
        return min(1.0, seconds / (60 * self.minutes)) if self.minutes > 0 else 1.0

    def rate(self, seconds, step, images=0):
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(seconds, images)))
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        return self.peak_rate * warm * (LOWEST_RATE + (1 - LOWEST_RATE) * cosine)

    def crop_and_batch(self, seconds, images=0):
        large = self.progress(seconds, images) >= self.large_from
        return (self.large_crop, self.large_batch) if large else (self.small_crop, self.small_batch)


def bits_per_dimension(flow, images, batch=32):
    """Mean code length of u8 images [N, 3, H, W] in bits per sample of the image."""
    device = next(flow.parameters()).device
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(images), batch):
            part = torch.from_numpy(images[begin : begin + batch]).to(device)
            total += flow(part).sum().item()
    return total / images.size


def kilo_multiplications(flow):
    """Thousands of multiply-accumulates per byte of the image, of float and quantised flows."""
    total = 0.0
    for path, network in flow.networks():
        weights = sum(p.numel() for p in network.parameters() if p.dim() == 4)
        level = int(path.removeprefix("level").split(".")[0])
        total += weights / 4 ** (level + 1) / 3
    return total / 1e3


class Trainer:
    """Trains `flow` on the sampler's crops and keeps an exponential average of its parameters.

    With `compiled`, steps run a compiled graph of the flow, one for each crop size, and the step
    that compiles it takes none of the schedule's time; average and evaluation use the flow itself.
    """

    def __init__(
        self, flow, schedule, sampler, evaluation, folder, precision="fp32", seed=0, compiled=False
    ):
        self.flow, self.schedule, self.sampler = flow, schedule, sampler
        self.evaluation, self.folder, self.precision = evaluation, Path(folder), precision
        self.step_flow = torch.compile(flow, dynamic=False) if compiled else flow
        self.compiled, self.graphs = compiled, set()  # crop sizes
        self.device = next(flow.parameters()).device
        self.parameters = list(flow.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimiser = muon_and_adam(
            self.parameter_groups(), self.hidden_kernels(), schedule.peak_rate,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.generator = np.random.default_rng(seed)
        self.step = self.images = self.skipped = 0
        self.seconds = 0.0
        self.stopping = self.compiling = False
        self.log = []  # rows (seconds, step, images, training bits/dim, {set: bits/dim}, kMAC/byte)

    def hidden_kernels(self):
        """The float kernels between hidden channels, which Muon takes over."""
        convolutions = [(n, m) for n, m in self.flow.named_modules() if isinstance(m, nn.Conv2d)]
        return [c.weight for name, c in convolutions if ".inner." in name]

    def parameter_groups(self):
        """The optimiser's groups; one with a "rate" keeps it, the others follow the schedule."""
        return [{"params": self.parameters}]

    @property
    def checkpoint(self):
        return self.folder / "checkpoint.pt"

    def state(self):
        """What a checkpoint holds."""
        return {
            "flow": self.flow.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.bit_generator.state,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "log": self.log,
        }

    def save(self):
        """Writes the checkpoint; an interruption leaves the old or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(self.state(), temporary)
        os.replace(temporary, self.checkpoint)

    def resume(self):
        """Continues from the checkpoint if there is one; true if so."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=False)
        self.flow.load_state_dict(state["flow"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.bit_generator.state = state["generator"]
        for name in ("step", "images", "seconds", "log"):
            setattr(self, name, state[name])
        return True

    def stop(self, *_):
        """Ends `run` after the present step, with a checkpoint; usable as a signal handler."""
        self.stopping = True

    def progress(self):
        """0 at the start, 1 when the schedule is spent."""
        return self.schedule.progress(self.seconds, self.images)

    def rate(self):
        return self.schedule.rate(self.seconds, self.step, self.images)

    def finished(self):
        return self.progress() >= 1

    def with_average(self, function):
        """The function's result while the averaged parameters are in the flow."""
        self.exchange()
        try:
            return function()
        finally:
            self.exchange()

    def exchange(self):
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average):
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)

    def evaluate(self):
        return self.with_average(
            lambda: {k: bits_per_dimension(self.flow, v) for k, v in self.evaluation.items()}
        )

    def penalty(self):
        """What is added to the bits per dimension to be minimised."""
        return 0.0

    def cost(self):
        """Thousands of multiply-accumulates per byte that the flow needs now."""
        return kilo_multiplications(self.flow)

    def train_step(self):
        """One update; the training bits per dimension, NaN if the step was skipped.

        A step whose loss or gradient is not finite changes nothing but the generator; too many
        in succession raise FloatingPointError.
        """
        crop, batch = self.schedule.crop_and_batch(self.seconds, self.images)
        images = self.sampler.crops(batch, crop, self.generator).to(self.device)
        self.compiling = self.compiled and crop not in self.graphs
        self.graphs.add(crop)
        low = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext():
            loss = self.step_flow(images).sum() / images.numel()
        self.optimiser.zero_grad(set_to_none=True)
        (loss + self.penalty()).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, GRADIENT_LIMIT)
        if not torch.isfinite(loss.detach() + norm).item():
            self.skip()
            return math.nan
        self.skipped = 0
        self.update()
        self.images += batch
        return loss.item()

    def skip(self):
        """Counts a step that is left out."""
        self.skipped += 1
        if self.skipped >= SKIPPED_LIMIT:
            raise FloatingPointError(
                f"no finite loss and gradient in {self.skipped} steps after step {self.step}: the "
                f"training has diverged; lower the rate and continue from {self.checkpoint}"
            )

    def update(self):
        """Moves the parameters along the gradients, and the average after them."""
        rate = self.rate()
        for group in self.optimiser.param_groups:
            group["lr"] = group.get("rate", rate * group.get("scale", 1.0))
        self.optimiser.step()
        self.step += 1
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.data for p in self.parameters], 1 - decay)

    def run(self, checkpoint_minutes=3.0):
        """Trains until it is finished or stopped; evaluates at every checkpoint."""
        losses, next_report = [], self.seconds + 60
        last = time.monotonic()
        images_before, seconds_before = self.images, self.seconds
        while not (self.finished() or self.stopping):
            losses.append(self.train_step())
            now = time.monotonic()
            self.seconds += 0 if self.compiling else now - last
            last = now
            if self.seconds >= next_report or self.finished():
                speed = (self.images - images_before) / max(1e-9, self.seconds - seconds_before)
                self.report(np.nanmean(losses), speed)
                losses, images_before, seconds_before = [], self.images, self.seconds
                last = time.monotonic()
                next_report = self.seconds + 60 * checkpoint_minutes
        self.save()

    def report(self, loss, speed):
        measured, cost = self.evaluate(), self.cost()
        self.log.append((self.seconds, self.step, self.images, float(loss), measured, cost))
        self.save()
        sets = "  ".join(f"{k} {v:.4f}" for k, v in measured.items())
        print(
            f"{self.progress():6.1%}  {self.seconds / 60:.1f} min  step {self.step}  "
            f"images {self.images}  {speed:.0f}/s  rate {self.rate():.2e}  "
            f"kMAC/byte {cost:.2f}  train {loss:.4f}  {sets}",
            flush=True,
        )
