"""Datasets made by the flowpack program, and what they take."""

import argparse
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from formats import Result, run
from imagesets import read_rgb
from shard import Shard

BUILT_PROGRAM = Path(__file__).resolve().parents[2] / ".build/release/flowpack"
ONE_THREAD = ("--threads", "1", "--progress", "none")


def add_program_option(parser):
    parser.add_argument(
        "--flowpack", type=program, default=str(BUILT_PROGRAM), metavar="PROGRAM",
        help="the flowpack program (default: the one that is built in this repository)",
    )  # fmt: skip


def add_models_option(parser):
    parser.add_argument(
        "--model", action="append", metavar="NAME_OR_FILE",
        help="profile or model file, any number of times (default: fast)",
    )  # fmt: skip


def program(text):
    """The absolute path of a program, given by its path or its name."""
    found = shutil.which(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"there is no program {text}")
    return Path(found).resolve()


@dataclass(frozen=True, kw_only=True)
class FlowResult(Result):
    """The Result of a model, with what else is worth knowing of its dataset."""

    model: str
    model_bytes: int
    stored: int  # images that were smaller as their source files
    verify_seconds: float
    extract_seconds: float


class Dataset:
    """A finished dataset; `seconds` of wall clock that compressing took, verification included."""

    def __init__(self, program, path, seconds):
        self.program, self.path, self.seconds = program, path, seconds

    @classmethod
    def compress(cls, program, folder, path, model):
        """Compresses a folder with a model, a profile's name or a file, on one thread."""
        command = [program, "compress", folder, "-o", path, "--model", model, *ONE_THREAD]
        return cls(program, path, run(command)[0])

    @cached_property
    def shards(self):
        return [Shard.parse(file.read_bytes()) for file in sorted(self.path.glob("shards/*.fpk"))]

    @cached_property
    def samples(self):
        """The samples in their order, as `flowpack ls` describes them."""
        return json.loads(run([self.program, "ls", self.path, "--json"])[1])

    def coded_images(self):
        """(block, names of its images, first row of them that it holds) of every flow block."""
        samples = iter(self.samples)
        for shard in self.shards:
            yield from shard.coded_images(list(islice(samples, shard.samples)))

    @property
    def model_file(self):
        (file,) = self.path.glob("model-*.safetensors")
        return file

    @property
    def manifest_bytes(self):
        return (self.path / "manifest.json").stat().st_size

    @property
    def bytes(self):
        """Bytes of all files but the model, which does not grow with the number of images."""
        files = (f for f in self.path.rglob("*") if f.is_file())
        return sum(f.stat().st_size for f in files) - self.model_file.stat().st_size

    def verify(self):
        """Seconds that reading, decoding and checking took, without the start of the program."""
        _, summary = run([self.program, "verify", self.path, "--json", *ONE_THREAD])
        return json.loads(summary)["seconds"]

    def extract(self, folder):
        """Seconds of wall clock."""
        return run([self.program, "extract", self.path, "-o", folder, *ONE_THREAD])[0]


def measure(program, model, folder, files, scratch):
    """Compresses, verifies, extracts and compares every pixel of a folder's files; a FlowResult."""
    dataset = Dataset.compress(program, folder, scratch / "dataset", model)
    restored = scratch / "restored"
    verify_seconds, extract_seconds = dataset.verify(), dataset.extract(restored)
    for file in files:
        if not np.array_equal(read_rgb(file), read_rgb(restored / file.relative_to(folder))):
            raise SystemExit(f"{file}: the extracted pixels differ")
    result = FlowResult(
        label=f"Flowpack {model_name(model)}",
        bytes=dataset.bytes,
        payload_bytes=sum(shard.payload_bytes for shard in dataset.shards),
        seconds=dataset.seconds,
        model=model_name(model),
        model_bytes=dataset.model_file.stat().st_size,
        stored=sum(sample["mode"] == "stored" for sample in dataset.samples),
        verify_seconds=verify_seconds,
        extract_seconds=extract_seconds,
    )
    shutil.rmtree(dataset.path)
    shutil.rmtree(restored)
    return result


def model_name(model):
    """A profile's name, or a model file's without folder and suffix."""
    return Path(model).stem if model.endswith(".safetensors") else model
