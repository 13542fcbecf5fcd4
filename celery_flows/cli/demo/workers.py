"""The demo's workers: threads of this process, or a worker of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from celery import Celery
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer

from celery_flows.cli.demo.tasks import SAID, queues_of
from celery_flows.cli.live import say

#: Seconds for which a worker may finish what it does.
_PATIENCE = 20

LOG = "worker.log"


class Workers(Protocol):
    """Workers that run."""

    def are_alive(self) -> bool:
        """Whether they still run."""


class _InThread:
    def __init__(self, thread: threading.Thread) -> None:
        self.are_alive = thread.is_alive


class _InProcess:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def are_alive(self) -> bool:
        return self._process.poll() is None


class _PromptConsumer(Consumer):
    """Acknowledges at once, as Celery's own does since 5.7: older ones wait two seconds for another message."""

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Do something now."""
        p(*args, **kwargs)
        return p


@contextmanager
def in_this_process(app: Celery, run: Path, number: int) -> Iterator[Workers]:
    """Run a worker in a thread, its jobs in a pool of threads."""
    # The pool's threads look for the app here; this process is the demo's alone.
    app.set_default()
    worker = WorkController(
        app=app,
        hostname=f"{run.name}@here",
        pool="threads",
        consumer_cls=_PromptConsumer,
        concurrency=number,
        without_heartbeat=True,
        without_mingle=True,
        without_gossip=True,
    )
    thread = threading.Thread(target=worker.start, name="worker", daemon=True)
    thread.start()
    try:
        yield _InThread(thread)
    finally:
        app.control.shutdown()
        thread.join(_PATIENCE)
        state.should_stop = None


@contextmanager
def in_processes(app: Celery, run: Path, number: int, flows: Mapping[str, Any]) -> Iterator[Workers]:
    """Start a worker with so many processes; what its callbacks print comes out here.

    Args:
        flows: settings for the worker's app.
    """
    command = [sys.executable, "-m", "celery_flows.cli.demo.worker", str(run), str(number), json.dumps(flows)]
    with (
        _own_queues(app, run.name),
        (run / LOG).open("w") as log,
        subprocess.Popen(command, stdout=-1, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        echo = threading.Thread(target=_echo, args=(process.stdout,), daemon=True)
        echo.start()
        try:
            yield _InProcess(process)
        finally:
            _end(process)
            echo.join(_PATIENCE)


@contextmanager
def _own_queues(app: Celery, run: str) -> Iterator[None]:
    """Leave nothing behind in the broker."""
    try:
        yield
    finally:
        with app.connection_for_write() as connection:
            for name in queues_of(run):
                queue = app.amqp.queues[name].bind(connection.default_channel)
                # What is declared here can be deleted here with all that belongs to it.
                queue.declare()
                queue.delete()
            queue.exchange.delete()


def _echo(lines: IO[str]) -> None:
    for line in lines:
        # The worker's own words are for its log.
        if line.startswith(SAID):
            say(line.rstrip("\n"))


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
