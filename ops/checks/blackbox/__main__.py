"""Black box: real programs, killed and disturbed; see ops/blackbox."""

import argparse
import pathlib
import random
import signal
import sys
import tempfile
import time

from fleet import Failure, Fleet
from mishaps import MISHAPS
from storm import Storm


# In this order, so that the summary of the kills is the last line.
CHECKS = [*MISHAPS, "kills"]


def main():
    options = arguments()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    # Ended by a signal, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failures = 0
    for name in sorted(options.only or CHECKS, key=CHECKS.index):
        failures += storm(options, seed) if name == "kills" else attempt(options, seed, name)
    return failures


def storm(options, seed):
    """Kills and disturbs; prints the summary and returns how many promises were broken."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flowpack-blackbox-") as folder:
        fleet = Fleet(options.programs, options.source, folder, seed)
        storm = Storm(fleet, seed)
        try:
            count, complaints = storm.run(options.kills)
        except Failure as failure:
            storm.complain("failed", str(failure))
            count, complaints = storm.count, storm.complaints
        finally:
            fleet.stop()
        for complaint in complaints:
            print(complaint)
    seconds = time.monotonic() - start
    kinds = ("lost", "duplicated", "stuck", "failed", "differing", "leftover")
    print(f"faults of the proxy: {storm.proxy.faults}, pauses {count['pauses']}")
    print(
        f"kills {count['kills']}, "
        + ", ".join(f"{kind} {count[kind]}" for kind in kinds)
        + f"; {count['jobs']} jobs, {count['acknowledged']} acknowledged commits, {seconds:.0f} s"
    )
    return len(complaints)


def attempt(options, seed, name):
    """Runs a mishap in a folder of its own; prints how it went and returns 1 if it went wrong."""
    with tempfile.TemporaryDirectory(prefix="flowpack-blackbox-") as folder:
        fleet = Fleet(options.programs, options.source, folder, seed)
        try:
            print(f"{name}: {MISHAPS[name](fleet)}", flush=True)
            return 0
        except Failure as failure:
            print(f"{name}: FAILED: {failure}", flush=True)
            return 1
        finally:
            fleet.stop()


def arguments():
    parser = argparse.ArgumentParser(prog="ops/blackbox")
    parser.add_argument("--kills", type=int, default=20, help="processes to kill (20)")
    parser.add_argument("--seed", type=int, help="draws the faults (drawn)")
    parser.add_argument("--source", type=pathlib.Path, required=True, help="folder of images")
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="built programs")
    parser.add_argument(
        "--only", action="append", choices=CHECKS, help="this check (all); several times for more"
    )
    options = parser.parse_args()
    options.programs = options.programs.resolve()
    options.source = options.source.resolve()
    return options


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
