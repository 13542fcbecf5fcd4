"""The workers under test: one per app, of two processes, which consume when they are told to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from benchmarks.case import Figures
from benchmarks.services import World

#: Seconds that one run may take at most.
_PATIENCE: Final = 1800

#: The worlds whose workers have been started, by their folders; and the workers, by the names of their apps.
_started: dict[Path, dict[str, int]] = {}

_PROC: Final = Path("/proc")
#: A second, in the unit in which Linux counts CPU time.
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def drained(world: World, app: Any, publish: Callable[[str], None]) -> Figures:
    """Let messages be published, and then be consumed.

    The worker runs all the time; its queue is cancelled while the messages are published.

    Args:
        publish: is given the file that must be there at the end.

    Returns:
        Seconds from the moment when the worker may consume, and the CPU time that it and its processes took,
        which says more where the machine does something else too.
    """
    start_workers(world)
    marker = world.scratch / token_hex(8)
    publish(str(marker))
    used, started = _cpu_seconds(world, app), time.perf_counter()
    with consuming(world, app):
        wait_until(marker.exists)
        seconds = time.perf_counter() - started
        # The kernel counts in ticks: what is less than one is taken for one.
        return {"s": seconds, "CPU s of the worker": max(_cpu_seconds(world, app) - used, 1 / _TICKS)}


def _cpu_seconds(world: World, app: Any) -> float:
    """What a worker's processes have used so far. Only Linux tells; elsewhere it is the time that passes."""
    main = _started[world.scratch][app.main]
    if not (_PROC / str(main)).exists():
        return time.perf_counter()
    children = (_PROC / f"{main}/task/{main}/children").read_text().split()
    return sum(map(_cpu_seconds_of, [str(main), *children]))


def _cpu_seconds_of(pid: str) -> float:
    # Behind the name in parentheses, which may hold anything; in user mode, and in the kernel.
    fields = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def counted(world: World, app: Any, ticks: int, start: Callable[[], object]) -> float:
    """Start something on a worker that consumes already.

    Returns:
        Seconds until so many tasks have said that they ran.
    """
    start_workers(world)
    world.notes.write_text("")
    with consuming(world, app):
        started = time.perf_counter()
        start()
        wait_until(lambda: world.notes.stat().st_size >= ticks)
        return time.perf_counter() - started


@contextmanager
def consuming(world: World, app: Any) -> Iterator[None]:
    """Let the worker of an app consume until the end of the block."""
    # Both workers hear what is said to all: each is named.
    node, queue = [_node(world, app)], app.conf.task_default_queue
    app.control.add_consumer(queue, destination=node)
    try:
        yield
    finally:
        _told(app.control.cancel_consumer(queue, node, reply=True, timeout=30))


def start_workers(world: World) -> None:
    """Start both workers, once; they end with the world."""
    if world.scratch in _started:
        return
    workers = {app.main: _worker(world, app.main) for app in (world.plain, world.ours)}
    for worker in workers.values():
        world.exits.callback(_stop, worker)
    _started[world.scratch] = {name: worker.pid for name, worker in workers.items()}
    for app in (world.plain, world.ours):
        wait_until(partial(app.control.ping, [_node(world, app)], timeout=0.5))
        _told(
            app.control.cancel_consumer(app.conf.task_default_queue, [_node(world, app)], reply=True, timeout=30)
        )


def _worker(world: World, name: str) -> subprocess.Popen[bytes]:
    with (world.scratch / f"{name}.log").open("w") as log:
        words = ["-A", f"benchmarks.apps:{name}", "worker", "--concurrency", "2"]
        words += ["--hostname", f"{name}-{world.apps.RUN}@bench"]
        quiet = ["--loglevel", "error", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", *words, *quiet]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait()


def _node(world: World, app: Any) -> str:
    return f"{app.main}-{world.apps.RUN}@bench"


def _told(replies: Any) -> None:
    assert replies, "the worker does not answer"


def wait_until(is_so: Callable[[], Any]) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not get there")
        time.sleep(0.002)
