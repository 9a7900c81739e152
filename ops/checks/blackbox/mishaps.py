"""Mishaps that are no kills: each takes a fleet and returns a line about how it went."""

import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request

from fleet import ENDS, Failure, Member, free_port

DAMAGE_SECONDS = 20
JOB_SECONDS = 180
JUMPS_TO_DAYS = (1, -1, 400, -3, 0, 3650)
ROOT = pathlib.Path(__file__).parents[3]
# Longest row of jobs until every step was the end of a process.
MOST_JOBS = 6


def steps(fleet):
    """Coordinator and workers are lost at each step of `CrashPoint` while jobs run."""
    digest = fleet.undisturbed_digest()
    crashes = Crashes(fleet)
    with crashes:
        for number in range(MOST_JOBS):
            require_digest(fleet, fleet.submit(fleet.folder / f"dataset-{number}"), digest)
            if not crashes.missing:
                return f"a loss at each of {len(crashes.lost)} steps, the same digest"
    raise Failure(f"nobody came to {crashes.missing}")


class Crashes:
    """A coordinator and four workers, each of which ends at a step of `CrashPoint` in each life."""

    def __init__(self, fleet):
        source = (ROOT / "Sources/CrashPoints/CrashPoint.swift").read_text()
        worker, coordinator, *_ = source.split("    // ")[1:]
        self.ahead = {"worker": cases(worker), "coordinator": cases(coordinator)}
        self.missing = set(cases(worker) + cases(coordinator))
        self.lost = []
        self.fleet = fleet
        fleet.workers = [Member(f"worker-{number}", fleet.folder) for number in range(4)]
        self.steps = dict.fromkeys([fleet.coordinator, *fleet.workers])
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.revive)

    def __enter__(self):
        for member in self.steps:
            self.start(member)
        self.thread.start()

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def start(self, member):
        """Starts a member with the next step of its role, if there is one left."""
        ahead = self.ahead[member.name.partition("-")[0]]
        step = self.steps[member] = ahead.pop(0) if ahead else None
        # The first transactions are those of the start; later ones are more of a loss.
        visit = 5 if step and "Commit" in step else 1
        environment = {"FLOWPACK_CRASH_AT": f"{step}:{visit}"} if step else {}
        if member is self.fleet.coordinator:
            self.fleet.start_coordinator(environment)
        else:
            self.fleet.start_worker(member, environment=environment)

    def revive(self):
        while not self.is_over.wait(0.02):
            for member, step in self.steps.items():
                if not member.is_running:
                    self.lost.append(step)
                    self.missing.discard(step)
                    self.start(member)


def cases(source):
    return re.findall(r"^    case (\w+)$", source, re.MULTILINE)


def race(fleet, rounds=10):
    """Two coordinators start on one folder at the same moment, after the kill of the one before."""
    fleet.start_coordinator()
    fleet.call("/v1/jobs")
    for _ in range(rounds):
        fleet.coordinator.kill()
        rivals = [Member(f"rival-{number}", fleet.folder) for number in range(2)]
        for rival in rivals:
            rival.start(fleet.coordinator_command(port=free_port()))
        wait_until(lambda: any(not rival.is_running for rival in rivals), "one rival gives up")
        time.sleep(0.2)
        losers = [rival for rival in rivals if not rival.is_running]
        if len(losers) != 1:
            raise Failure(f"{len(losers)} of 2 coordinators gave up")
        if losers[0].process.returncode != 3:
            raise Failure(f"the loser ended with {losers[0].process.returncode}, not 3")
        if "Another process holds" not in losers[0].log_path.read_text():
            raise Failure("the loser does not say that another process holds the folder")
        fleet.coordinator = next(rival for rival in rivals if rival.is_running)
    return f"{rounds} times one of two coordinators had the folder, the other said so"


def clocks(fleet):
    """The coordinator's wall clock jumps in the middle of jobs, also while it is away."""
    offset = fleet.folder / "offset"
    offset.write_text("0")
    library = fleet.folder / "wallclock.so"
    source = pathlib.Path(__file__).with_name("wallclock.c")
    subprocess.run(["clang", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(offset)}
    digest = fleet.undisturbed_digest()
    fleet.start_coordinator(environment)
    fleet.add_workers(2)
    for number, days in enumerate(JUMPS_TO_DAYS):
        job = fleet.submit(fleet.folder / f"dataset-{number}")
        offset.write_text(str(days * 86400))
        if number % 2:
            fleet.coordinator.kill()
            fleet.start_coordinator(environment)
        require_digest(fleet, job, digest)
    return f"{len(JUMPS_TO_DAYS)} jumps of the wall clock, forwards and back, the same digest"


def disks(fleet):
    """The disk of the queue and then that of the dataset are full for some seconds."""
    if os.geteuid() != 0:
        return "skipped: needs root, to mount small file systems"
    digest = fleet.undisturbed_digest()
    with tmpfs(fleet.folder / "state") as state, tmpfs(fleet.folder / "output") as output:
        fleet.start_coordinator()
        fleet.add_workers(2)
        job = fleet.submit(output / "dataset")
        time.sleep(0.5)
        with filled(state):
            wait_until(lambda: not (state / "ballast").exists(), "the ballast goes")
            require_no_new_work(fleet)
            wait_until(lambda: "shards" in fleet.status(job), "the coordinator answers")
        wait_until((state / "ballast").exists, "the ballast is back")
        time.sleep(0.5)
        with filled(output):
            sign = "No space left on device"
            wait_until(lambda: any(sign in log for log in logs(fleet)), f'"{sign}" in a log')
        require_digest(fleet, job, digest)
    return "both were full for a while, new work was refused, the same digest"


def require_no_new_work(fleet):
    """A submission gets 503, and is told when to come back."""
    body = {"source": str(fleet.source), "destination": "/nonexistent", "modelID": "0" * 64}
    request = urllib.request.Request(
        f"http://127.0.0.1:{fleet.port}/v1/jobs",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {fleet.token.read_text()}"},
    )
    try:
        urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 503 and error.headers["Retry-After"]:
            return
        raise Failure(f"a submission on a full disk gets {error.code}") from error
    raise Failure("a submission on a full disk is accepted")


def bits(fleet, flips=16):
    """Bits flip in the queue's file while no coordinator has it, and in shards."""
    digest = fleet.undisturbed_digest()
    dataset = fleet.folder / "dataset"
    fleet.start_coordinator()
    job = fleet.submit(dataset)
    wait_until(lambda: fleet.status(job)["isScanFinished"], "the source is scanned")
    fleet.coordinator.process.terminate()
    fleet.coordinator.process.wait()
    sound = [folder.rename(f"{folder}-sound") for folder in (fleet.state, dataset)]
    ends = collections.Counter()
    for _ in range(flips):
        for folder, copy in zip((fleet.state, dataset), sound):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(copy, folder)
        flip(fleet.state / "state.db", fleet.random)
        ends[end_of_damaged_queue(fleet, job, digest)] += 1
    return f"{flips} flips in state.db: {dict(ends)}; {flip_shards(fleet, flips)}"


def end_of_damaged_queue(fleet, job, digest):
    """What a coordinator with a damaged queue does: anything but a wrong dataset in silence."""
    worker = Member("worker-of-damage", fleet.folder)
    fleet.coordinator.log_path.unlink()
    fleet.start_coordinator()
    fleet.start_worker(worker)
    try:
        wait_until(lambda: has_ended(fleet, job), "the damaged queue's job ends", DAMAGE_SECONDS)
        if not fleet.coordinator.is_running:
            return "refused"
        if " error " in fleet.coordinator.log_path.read_text():
            return "said in the log"
        status = fleet.status(job)
        if status["state"] != "completed":
            return "said in the job"
        code, *_ = fleet.flowpack("verify", status["destination"])
        if code == 0 and status["datasetDigest"] != digest:
            raise Failure("a damaged queue made another dataset in silence")
        return "without effect" if code == 0 else "found by verify"
    finally:
        worker.kill()
        fleet.coordinator.kill()


def has_ended(fleet, job):
    """Whether the job has ended, or the coordinator has or says that it cannot go on."""
    if not fleet.coordinator.is_running or " error " in fleet.coordinator.log_path.read_text():
        return True
    try:
        state = fleet.call(f"/v1/jobs/{job}", seconds=0)["state"]
        return state in ENDS
    except (Failure, urllib.error.HTTPError):
        return False


def flip_shards(fleet, flips):
    """Every flip in a shard of a finished dataset is found by `verify`, which names the shard."""
    dataset = fleet.folder / "finished"
    fleet.compress(dataset)
    shards = sorted((dataset / "shards").iterdir())
    for _ in range(flips):
        shard = fleet.random.choice(shards)
        sound = shard.read_bytes()
        flip(shard, fleet.random)
        code, output, errors = fleet.flowpack("verify", dataset)
        shard.write_bytes(sound)
        if code == 0 or shard.name not in output + errors:
            raise Failure(f"verify ends with {code} for a flip in {shard.name}: {errors}")
    return f"{flips} in shards, each named by verify"


# Helpers


def require_digest(fleet, job, digest):
    """The job completes with that digest, and its dataset verifies."""
    status = fleet.wait_for_end(job, JOB_SECONDS)
    if status is None:
        raise Failure(f"job {job} is stuck: {fleet.call(f'/v1/jobs/{job}/explain')}")
    if status["state"] != "completed" or status["datasetDigest"] != digest:
        raise Failure(f"job {job} is {status['state']}: {status.get('failure')}")
    fleet.require_flowpack("verify", status["destination"])


def wait_until(condition, text, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s until {text}")
        time.sleep(0.02)


def flip(path, generator):
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def logs(fleet):
    return [path.read_text(errors="replace") for path in fleet.folder.glob("*.log")]


@contextlib.contextmanager
def tmpfs(folder, size="16m"):
    """A small file system in memory at a new folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def filled(folder):
    """Takes every free byte of a folder's file system."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass
    try:
        yield
    finally:
        filler.unlink()


MISHAPS = {"steps": steps, "race": race, "clocks": clocks, "disks": disks, "bits": bits}
