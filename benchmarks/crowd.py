"""Many processes that work at the same time, each with a database connection of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks.rows import Running
from benchmarks.services import World
from celery_flows.store.database import Database

#: Does something with one job.
Act = Callable[[Running], object]

#: A job that does not exist: what is done with it opens the connection and compiles what is said.
_NOBODY: Final = Running("nobody", "nobody")


def crowd(world: World, size: int, jobs: Sequence[Running], prepare: Callable[[Database], Act]) -> float:
    """Fork up to `size` processes that do something with jobs, each job once.

    Neighbours among the jobs go to different processes, as a queue would give them.

    Args:
        prepare: makes, in a process, what it does with each of its jobs.

    Returns:
        Seconds from the first one's beginning to the last one's end.
    """
    size = max(1, min(size, len(jobs)))
    # Nobody inherits a connection.
    world.database.close()
    fork = multiprocessing.get_context("fork")
    barrier, times = fork.Barrier(size), fork.SimpleQueue()
    arguments = [(world.database, jobs[number::size], prepare, barrier, times) for number in range(size)]
    processes = [fork.Process(target=_member, args=one) for one in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process of the crowd has failed; what it said is above")
    spans = [times.get() for _ in processes]
    return float(max(end for _, end in spans) - min(start for start, _ in spans))


def _member(
    database: Database, jobs: Sequence[Running], prepare: Callable[[Database], Act], barrier: Any, times: Any
) -> None:
    try:
        act = prepare(database)
        act(_NOBODY)
        barrier.wait()
        started = time.perf_counter()
        for job in jobs:
            act(job)
        times.put((started, time.perf_counter()))
    except BaseException:
        barrier.abort()
        raise
