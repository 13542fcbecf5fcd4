"""Outcomes that the worker's main process learns of, written by a thread of its own.

The handlers run in the consumer's loop, where a slow database would hold up heartbeats and acknowledgements.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery_flows.messaging.gate import end, give_up
from celery_flows.messaging.header import Delivery
from celery_flows.messaging.patience import persistently
from celery_flows.messaging.runtime import attached_to
from celery_flows.states import JobState

logger = logging.getLogger(__name__)


class Reporter:
    """A thread that does one thing after another; it starts with the first."""

    def __init__(self) -> None:
        self._work: queue.Queue[Callable[[], None]] = queue.Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # The thread that has no consumer's loop to go on with.
        self._at_once: int | None = None

    def submit(self, act: Callable[[], None]) -> None:
        """Do this later, after what was submitted before."""
        if self._at_once == threading.get_ident():
            act()
            return
        self._work.put(act)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="celery-flows-outcomes", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            act = self._work.get()
            try:
                act()
            except Exception:
                logger.exception("An outcome could not be written.")
            finally:
                self._work.task_done()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Do what this thread submits in the block here and now, on its own connections."""
        before, self._at_once = self._at_once, threading.get_ident()
        try:
            yield
        finally:
            self._at_once = before

    def drain(self) -> None:
        """Wait until everything submitted is done."""
        self._work.join()


reporter = Reporter()


def lose_later(app: Any, delivery: Delivery, reason: str, *, bears_again: bool) -> None:
    """Give up a job whose process died."""
    runtime = attached_to(app)
    if runtime is not None:
        reporter.submit(lambda: persistently(runtime, lambda: give_up(runtime, delivery, reason, bears_again)))


def report_later(app: Any, delivery: Delivery, state: JobState, error: BaseException | str) -> None:
    """Write the outcome of a job that can't write it itself."""
    runtime = attached_to(app)
    if runtime is not None:
        reporter.submit(lambda: persistently(runtime, lambda: end(runtime, delivery, state, error)))
