"""A coordinator and its workers as processes of this machine."""

import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

LEASE_SECONDS = 4
SHARD_BYTES = "16KiB"
ANSWER_SECONDS = 60
ENDS = ("completed", "completed_with_fallbacks", "failed", "cancelled")


class Failure(Exception):
    """A promise that was not kept."""


class Member:
    """One process: started, killed, stopped and started again under the same name."""

    def __init__(self, name, folder):
        self.log_path = folder / f"{name}.log"
        self.name = name
        self.process = None

    def start(self, command, environment=None):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), **(environment or {})},
            )

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """Ends it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def require_alive(self):
        """A member that nobody killed runs."""
        if not self.is_running:
            tail = self.log_path.read_text(errors="replace")[-2000:]
            raise Failure(f"{self.name} ended with {self.process.returncode}:\n{tail}")

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        if self.is_running:
            os.kill(self.process.pid, signal.SIGCONT)


class Fleet:
    """Programs, folders and addresses that the members share."""

    def __init__(self, programs, source, folder, seed):
        self.programs = pathlib.Path(programs)
        self.source = pathlib.Path(source)
        self.folder = pathlib.Path(folder)
        self.random = random.Random(seed)
        self.state = self.folder / "state"
        self.port = free_port()
        self.token = self.folder / "token"
        self.token.write_text(secrets.token_hex(24))
        self.token.chmod(0o600)
        self.coordinator = Member("coordinator", self.folder)
        self.workers = []

    # Members

    def start_coordinator(self, environment=None):
        self.coordinator.start(self.coordinator_command(), environment)

    def coordinator_command(self, port=None):
        return [
            self.programs / "flowpack-coordinator", "serve",
            "--data", self.state, "--listen", f"127.0.0.1:{port or self.port}",
            "--token-file", self.token, "--lease-seconds", LEASE_SECONDS,
            "--log-level", "notice",
        ]  # fmt: skip

    def start_worker(self, worker, port=None, environment=None):
        worker.start(
            [
                self.programs / "flowpack-worker",
                "--coordinator", f"http://127.0.0.1:{port or self.port}",
                "--token-file", self.token, "--slots", 1, "--log-level", "notice",
            ],
            environment,
        )  # fmt: skip

    def add_workers(self, count, port=None):
        for _ in range(count):
            worker = Member(f"worker-{len(self.workers) + 1}", self.folder)
            self.workers.append(worker)
            self.start_worker(worker, port)

    def stop(self):
        for member in [*self.workers, self.coordinator]:
            if member.is_running:
                member.go_on()
                member.kill()

    # Calls

    def call(self, path, seconds=ANSWER_SECONDS):
        """Reads a path of the coordinator's API, waiting for one that is away."""
        end = time.monotonic() + seconds
        while True:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.port}{path}",
                headers={"Authorization": f"Bearer {self.token.read_text()}"},
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
                problem = error
            except (OSError, ValueError) as error:
                problem = error
            if time.monotonic() > end:
                raise Failure(f"no answer to {path} for {seconds} s: {problem}")
            time.sleep(0.05)

    def status(self, job):
        return self.call(f"/v1/jobs/{job}")

    def events(self, job):
        """Every event of a job."""
        events = []
        while True:
            after = events[-1]["id"] if events else 0
            page = self.call(f"/v1/jobs/{job}/events?after={after}")["events"]
            if not page:
                return events
            events += page

    def flowpack(self, *arguments):
        """Runs the command line; returns its exit code and what it said."""
        ending = subprocess.run(
            [str(part) for part in (self.programs / "flowpack", *arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=clean_environment(),
        )
        return ending.returncode, ending.stdout, ending.stderr

    def require_flowpack(self, *arguments):
        """Runs the command line, which must succeed; returns its output."""
        code, output, errors = self.flowpack(*arguments)
        if code != 0:
            raise Failure(f"flowpack {arguments[0]} ended with {code}: {errors or output}")
        return output

    def submit(self, destination, port=None):
        """Submits the source; returns the job."""
        output = self.require_flowpack(
            "submit", self.source, "-o", destination,
            "--shard-bytes", SHARD_BYTES,
            "--coordinator", f"http://127.0.0.1:{port or self.port}", "--token-file", self.token,
        )  # fmt: skip
        return int(output)

    # Datasets

    def undisturbed_digest(self):
        """The dataset's digest as one process makes it."""
        output = self.folder / "undisturbed"
        self.compress(output)
        digest = manifest(output)["datasetDigest"]
        shutil.rmtree(output)
        return digest

    def compress(self, output):
        """Makes the dataset in one process."""
        self.require_flowpack(
            "compress", self.source, "-o", output,
            "--shard-bytes", SHARD_BYTES, "--progress", "none",
        )  # fmt: skip

    def source_files(self):
        files = (path for path in self.source.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.source)) for path in files)

    def wait_for_end(self, job, seconds):
        """The job's status when it has ended; None if it has not by then."""
        end = time.monotonic() + seconds
        while True:
            status = self.status(job)
            if status["state"] in ENDS:
                return status
            if time.monotonic() > end:
                return None
            time.sleep(0.1)


def manifest(folder):
    return json.loads((pathlib.Path(folder) / "manifest.json").read_text())


def clean_environment():
    """The environment without settings of ours."""
    return {key: value for key, value in os.environ.items() if not key.startswith("FLOWPACK_")}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
