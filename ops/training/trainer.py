"""The training loop shared by the float and the quantised stage: timed, resumable, averaged."""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

WARM_UP_STEPS = 200
AVERAGE_DECAY = 0.999
GRADIENT_LIMIT = 1.0
LOWEST_RATE = 0.01  # of the peak, at the end of the schedule


@dataclass(frozen=True)
class Schedule:
    """Learning rate, crop and batch as functions of the time trained; survives interruptions."""

    minutes: float
    peak_rate: float
    small_crop: int = 32
    large_crop: int = 64
    large_from: float = 2 / 3  # of the time
    small_batch: int = 32
    large_batch: int = 16

    def progress(self, seconds):
        return min(1.0, seconds / (60 * self.minutes))

    def rate(self, seconds, step):
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(seconds)))
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        return self.peak_rate * warm * (LOWEST_RATE + (1 - LOWEST_RATE) * cosine)

    def crop_and_batch(self, seconds):
        large = self.progress(seconds) >= self.large_from
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


class Trainer:
    """Trains `flow` on the sampler's crops and keeps an exponential average of its parameters."""

    def __init__(self, flow, schedule, sampler, evaluation, folder, precision="fp32", seed=0):
        self.flow, self.schedule, self.sampler = flow, schedule, sampler
        self.evaluation, self.folder, self.precision = evaluation, Path(folder), precision
        self.device = next(flow.parameters()).device
        self.parameters = list(flow.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimiser = torch.optim.Adam(self.parameters, lr=schedule.peak_rate, betas=(0.9, 0.99))
        self.generator = np.random.default_rng(seed)
        self.step = self.images = 0
        self.seconds = 0.0
        self.log = []  # rows (seconds, step, images, training bits/dim, {set: bits/dim})

    @property
    def checkpoint(self):
        return self.folder / "checkpoint.pt"

    def save(self):
        """Writes the checkpoint; an interruption leaves the old or the new one."""
        state = {
            "flow": self.flow.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.bit_generator.state,
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "log": self.log,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
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

    def train_step(self):
        """One update; the training bits per dimension."""
        crop, batch = self.schedule.crop_and_batch(self.seconds)
        images = torch.from_numpy(self.sampler.batch(batch, crop, self.generator)).to(self.device)
        low = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext():
            loss = self.flow(images).sum() / images.numel()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, GRADIENT_LIMIT)
        rate = self.schedule.rate(self.seconds, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.step += 1
        self.images += batch
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.data for p in self.parameters], 1 - decay)
        return loss.item()

    def run(self, checkpoint_minutes=3.0):
        """Trains until the schedule's time is spent; evaluates at every checkpoint."""
        total, losses = 60 * self.schedule.minutes, []
        next_report = min(total, self.seconds + 60)
        last = time.monotonic()
        images_before, seconds_before = self.images, self.seconds
        while self.seconds < total:
            losses.append(self.train_step())
            now = time.monotonic()
            self.seconds += now - last
            last = now
            if self.seconds >= next_report:
                speed = (self.images - images_before) / (self.seconds - seconds_before)
                self.report(sum(losses) / len(losses), speed)
                losses, images_before, seconds_before = [], self.images, self.seconds
                last = time.monotonic()
                next_report = min(total, self.seconds + 60 * checkpoint_minutes)
        self.save()

    def report(self, loss, speed):
        measured = self.evaluate()
        self.log.append((self.seconds, self.step, self.images, loss, measured))
        self.save()
        sets = "  ".join(f"{k} {v:.4f}" for k, v in measured.items())
        print(
            f"{self.seconds / 60:6.1f}/{self.schedule.minutes:.1f} min  step {self.step}  "
            f"images {self.images}  {speed:.0f}/s  "
            f"rate {self.schedule.rate(self.seconds, self.step):.2e}  train {loss:.4f}  {sets}",
            flush=True,
        )
