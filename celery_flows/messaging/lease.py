"""This worker process's lease: a row that says it lives, renewed by a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Final

from celery_flows.ids import new_id
from celery_flows.messaging import native
from celery_flows.settings import Settings
from celery_flows.store.database import Database
from celery_flows.transitions.lease import mark_gone, mark_reserved, renew

logger = logging.getLogger(__name__)

#: How long the thread sleeps at most before it looks whether it should end, in seconds.
_TICK: Final = 0.25

#: How long its end waits at most for a renewal under way, in seconds.
_PATIENCE: Final = 5.0


class Lease:
    """One incarnation of a worker's main process: named by an id of its own, never by host and pid."""

    def __init__(
        self, settings: Settings, database: Database, reserved: Callable[[], dict[str, int]] = dict
    ) -> None:
        """Name the incarnation.

        Args:
            database: for this alone, so that the lease holds while the pool of connections is used up.
            reserved: tells the jobs whose messages wait in this process, by id, with their delivery numbers.
        """
        self._reserved = reserved
        #: The jobs that may stand in the database as waiting here, and whether that is certain.
        self._marked: dict[str, int] = {}
        self._is_marked = True
        self.id = new_id()
        self._settings = settings
        self._database = database
        self._renewed_at = time.monotonic()
        self._is_renewed = True
        self._is_late = False
        self._is_over = False
        # Held while the row is written: who stops the lease deletes the row, and it must not come back.
        self._writing = native.new_lock()

    @property
    def seconds(self) -> float:
        """How long it lasts without renewal."""
        return self._settings.lease_timeout

    def start(self) -> None:
        """Write the row, then keep it fresh. Without a database the thread goes on trying."""
        self._try_renew()
        # The pool forks from here: its children must not inherit the connection.
        self._database.close()
        native.start_thread(self._run, "celery-flows-lease")

    def stop(self) -> None:
        """Let the thread end, once what it is writing is written."""
        self._is_over = True
        if self._writing.acquire(timeout=_PATIENCE):
            self._writing.release()

    def _run(self) -> None:
        due = time.monotonic() + self._settings.heartbeat_interval
        while not self._is_over:
            native.sleep(min(_TICK, self._settings.heartbeat_interval))
            if time.monotonic() >= due:
                began, interval = time.monotonic(), self._settings.heartbeat_interval
                self._try_renew()
                # Sooner where it failed: what is left of the lease may be short.
                due = began + (interval if self._is_renewed else min(interval, 1.0))
        self._database.close()

    def _try_renew(self) -> None:
        with self._writing:
            if not self._is_over:
                self._renew()

    def _renew(self) -> None:
        try:
            renew(self._database, self.id, socket.gethostname(), os.getpid(), self.seconds)
            self._mark_reserved()
        except Exception as error:
            self._is_renewed = False
            self._say_late(error)
        else:
            if self._is_late:
                logger.warning("The lease is renewed again: this worker takes jobs again.")
            self._renewed_at, self._is_renewed, self._is_late = time.monotonic(), True, False

    def _mark_reserved(self) -> None:
        reserved = self._reserved()
        known = self._marked if self._is_marked else {}
        fresh = {job: number for job, number in reserved.items() if known.get(job) != number}
        # A worker that lost its broker forgets what it had not begun, and lives on.
        gone = {job: number for job, number in self._marked.items() if job not in reserved}
        # Before the answer: what was written before the database went away is to be taken back as well.
        self._marked, self._is_marked = {**self._marked, **fresh}, False
        if fresh:
            mark_reserved(self._database, self.id, fresh)
        if gone:
            mark_gone(self._database, self.id, gone)
        self._marked, self._is_marked = reserved, True

    def _say_late(self, error: Exception) -> None:
        silence = time.monotonic() - self._renewed_at
        self._is_late = self._is_late or silence > self.seconds
        logger.error(
            "The lease could not be renewed for %.0f s (%s). %s",
            silence,
            error,
            "This worker takes no more jobs until it can."
            if self._is_late
            else f"After {self.seconds:g} s it takes no more jobs.",
        )
