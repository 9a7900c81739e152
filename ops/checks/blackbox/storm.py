"""Kills coordinator and workers at random moments while jobs run, and counts broken promises."""

import collections
import shutil
import time

from fleet import LEASE_SECONDS, Failure, manifest
from proxy import Proxy

WORKERS = 4
KILLS_PER_JOB = (10, 60)
KILLS_PER_SECOND = 12
LOOK_INTERVAL = 8  # kills between two looks whether the job has ended
CALM_SECONDS = 180  # after the last fault, for a job to end


class Storm:
    """One fleet, one job after the other, until there were enough kills."""

    def __init__(self, fleet, seed):
        self.fleet = fleet
        self.random = fleet.random
        self.proxy = Proxy(fleet.port, seed)
        self.count = collections.Counter()
        self.complaints = []

    def run(self, kills):
        """Does at least that many kills; returns the counts and what went wrong."""
        digest = self.fleet.undisturbed_digest()
        self.fleet.start_coordinator()
        self.fleet.add_workers(WORKERS, self.proxy.port)
        while self.count["kills"] < kills:
            self.one_job(kills - self.count["kills"], digest)
        self.fleet.stop()
        return self.count, self.complaints

    def one_job(self, most_kills, digest):
        self.count["jobs"] += 1
        destination = self.fleet.folder / f"dataset-{self.count['jobs']}"
        self.proxy.is_faulty = True
        job = self.fleet.submit(destination, self.proxy.port)
        self.disturb(job, min(most_kills, self.random.randint(*KILLS_PER_JOB)))
        self.proxy.is_faulty = False
        status = self.fleet.wait_for_end(job, CALM_SECONDS)
        if status is None:
            self.complain("stuck", f"job {job}: {self.fleet.call(f'/v1/jobs/{job}/explain')}")
            return
        self.check(job, status, destination, digest)
        shutil.rmtree(destination)
        print(f"job {job}: {self.count['kills']} kills so far", flush=True)

    # Faults

    def disturb(self, job, most_kills):
        """Kills processes while the job runs; now and then a worker stands still for long."""
        sleeper, wake_at = None, 0
        for number in range(1, most_kills + 1):
            if number % LOOK_INTERVAL == 0 and self.fleet.wait_for_end(job, 0):
                break
            time.sleep(self.random.expovariate(KILLS_PER_SECOND))
            if sleeper and time.monotonic() > wake_at:
                sleeper.go_on()
                sleeper = None
            if not sleeper and self.random.random() < 0.05:
                sleeper = self.random.choice(self.fleet.workers)
                wake_at = time.monotonic() + LEASE_SECONDS * self.random.uniform(0.5, 2)
                sleeper.require_alive()
                sleeper.pause()
                self.count["pauses"] += 1
            self.kill_one(sleeper)
        if sleeper:
            time.sleep(max(0, wake_at - time.monotonic()))
            sleeper.go_on()

    def kill_one(self, sleeper):
        """Kills a process, any moment of its life, and starts it again at once."""
        if self.random.random() < 0.25:
            self.fleet.coordinator.require_alive()
            self.fleet.coordinator.kill()
            self.fleet.start_coordinator()
        else:
            awake = [worker for worker in self.fleet.workers if worker is not sleeper]
            victim = self.random.choice(awake)
            victim.require_alive()
            victim.kill()
            self.fleet.start_worker(victim, self.proxy.port)
        self.count["kills"] += 1

    # Promises

    def complain(self, kind, text):
        self.count[kind] += 1
        self.complaints.append(f"{kind}: {text}")

    def check(self, job, status, destination, digest):
        if status["state"] != "completed":
            self.complain("failed", f"job {job} is {status['state']}: {status.get('failure')}")
            if status["state"] != "completed_with_fallbacks":
                return
        if status["datasetDigest"] != digest:
            self.complain("differing", f"job {job} has the digest {status['datasetDigest']}")
        self.check_commits(job, destination)
        try:
            self.fleet.require_flowpack("verify", destination)
            names = self.fleet.require_flowpack("ls", destination).splitlines()
        except Failure as failure:
            self.complain("differing", f"job {job}: {failure}")
            return
        for name, times in collections.Counter(names).items():
            if times > 1:
                self.complain("duplicated", f"job {job} has {name} {times} times")
        if sorted(set(names)) != self.fleet.source_files():
            self.complain("lost", f"job {job} has not the samples of its source")
        self.check_leftovers(job, destination)

    def check_commits(self, job, destination):
        """Each shard is committed once, by whom it was acknowledged to."""
        shards = manifest(destination)["shards"]
        committed = collections.defaultdict(list)
        for event in self.fleet.events(job):
            if event["kind"] == "committed":
                committed[event["ordinal"]].append(event["worker"])
        for shard in shards:
            if len(committed[shard["ordinal"]]) != 1:
                text = f"shard {shard['ordinal']} of job {job}: {committed[shard['ordinal']]}"
                self.complain("duplicated", text)
        for ordinal, commits in self.proxy.history.commits(job).items():
            expected = {(worker, shards[ordinal]["sha256"]) for worker in committed[ordinal]}
            self.count["acknowledged"] += len(commits)
            if commits != expected:
                text = f"shard {ordinal} of job {job}: acknowledged {commits}, holds {expected}"
                self.complain("lost", text)

    def check_leftovers(self, job, destination):
        found = {str(path.relative_to(destination)) for path in destination.rglob("*.*")}
        content = manifest(destination)
        expected = {shard["file"] for shard in content["shards"]}
        expected |= {"manifest.json", content["modelFile"]}
        if found != expected:
            self.complain("leftover", f"job {job} has {sorted(found ^ expected)}")
