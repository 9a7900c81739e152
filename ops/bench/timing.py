"""Times work on one thread, as `flowpack bench` does."""

import time


def best_seconds(work, seconds):
    """Processor time of this thread that one run of `work` in twenty falls below."""
    work()
    durations, deadline = [], time.perf_counter() + seconds
    while not durations or time.perf_counter() < deadline:
        start = time.thread_time_ns()
        work()
        durations.append(time.thread_time_ns() - start)
    return sorted(durations)[len(durations) // 20] * 1e-9
