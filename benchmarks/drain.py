"""Drain: from the moment the worker may consume, to the callback (for a group: the message behind the last).

The worker process runs all the time, its queue cancelled while the messages are published.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from celery import chord, group

from benchmarks.services import World
from celery_flows import Batch

#: Seconds that one run may take at most.
_PATIENCE = 900


@contextmanager
def prepared(world: World) -> Iterator[None]:
    """Two workers of two processes each, one per app; the other one idles."""
    workers = [_worker(world, name) for name in ("plain", "ours")]
    try:
        for app in (world.apps.plain, world.apps.ours):
            _wait_until(lambda app=app: app.control.ping([_node(app)], timeout=0.5))
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def _worker(world: World, name: str) -> subprocess.Popen[bytes]:
    log = (world.scratch / f"{name}.log").open("w")
    words = ["-A", f"benchmarks.apps:{name}", "worker", "--concurrency", "2", "--hostname", f"{name}@bench"]
    quiet = ["--loglevel", "error", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return subprocess.Popen([sys.executable, "-m", "celery", *words, *quiet], stdout=log, stderr=log)


def ours(world: World, n: int) -> float:
    """A batch with a callback."""
    apps = world.apps

    def publish(marker: str) -> None:
        batch = Batch.create(app=apps.ours)
        batch.on("complete", apps.callback.s(marker))
        with batch.jobs():
            for number in range(n):
                apps.job.delay(number)

    return _drained(world, apps.ours, publish)


def plain_group(world: World, n: int) -> float:
    """A group without results: nobody knows when it is done, so one more message is put behind it."""
    apps = world.apps

    def publish(marker: str) -> None:
        group(apps.plain_job.s(number) for number in range(n)).apply_async()
        apps.plain_callback.delay(None, marker)

    return _drained(world, apps.plain, publish)


def plain_chord(world: World, n: int) -> float:
    """A chord, its results in Redis."""
    apps = world.apps

    def publish(marker: str) -> None:
        chord(apps.plain_member.s(number) for number in range(n))(apps.plain_callback.s(marker))

    return _drained(world, apps.plain, publish)


def _drained(world: World, app: Any, publish: Callable[[str], None]) -> float:
    marker = Path(world.scratch, token_hex(8))
    queue = app.conf.task_default_queue
    # Both workers hear what is said to all: each is named.
    node = [_node(app)]
    _told(app.control.cancel_consumer(queue, node, reply=True, timeout=10))
    publish(str(marker))
    started = time.perf_counter()
    app.control.add_consumer(queue, destination=node)
    _wait_until(marker.exists)
    return time.perf_counter() - started


def _node(app: Any) -> str:
    return f"{app.main}@bench"


def _told(replies: Any) -> None:
    assert replies, "the worker does not answer"


def _wait_until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not get there")
        time.sleep(0.002)


SIDES = {"ours": ours, "group": plain_group, "chord": plain_chord}
