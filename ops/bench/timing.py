"""Times work on one thread, as `flowpack bench` does."""

import argparse
import time


def add_rounds_option(parser):
    parser.add_argument(
        "--rounds", type=positive, default=1, metavar="N",
        help="how often everything is measured (default: 1)",
    )  # fmt: skip


def positive(text):
    """For argparse: a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def best_seconds(work, seconds):
    """Processor time of this thread that one run of `work` in twenty falls below."""
    work()
    durations, deadline = [], time.perf_counter() + seconds
    while not durations or time.perf_counter() < deadline:
        start = time.thread_time_ns()
        work()
        durations.append(time.thread_time_ns() - start)
    return sorted(durations)[len(durations) // 20] * 1e-9
