"""A worker in the test's own process and thread, that runs when it is told to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery import Celery

from celery_flows.errors import BlockMisuse, ConfigurationError, NeverDrained
from celery_flows.ids import new_id
from celery_flows.messaging.gate import holder_of
from celery_flows.messaging.header import Delivery
from celery_flows.messaging.runtime import Runtime, find_runtime
from celery_flows.messaging.sweep import Swept, sweep
from celery_flows.store import leases
from celery_flows.store.clock import Clock
from celery_flows.testing.inbox import Inbox
from celery_flows.testing.running import Ran, run
from celery_flows.transitions.claim import claim
from celery_flows.transitions.recover import take_turn

#: Messages after which a drain is held never to end.
ENOUGH: Final = 10_000


class InProcessWorker:
    """Runs the messages of an app here, one after another, and only when told to.

    A message goes the way that it goes in a worker: claim, body, outcome, what waited for it, callbacks, retries.
    """

    def __init__(self, app: Celery | None = None) -> None:
        """Choose the app.

        Args:
            app: by default the current one, or the only one with Flows.

        Raises:
            NoFlows: no app was found.
        """
        self._runtime: Runtime = find_runtime(app)
        self._id = new_id()

    @property
    def app(self) -> Celery:
        """The app."""
        return self._runtime.app

    def drain(
        self,
        *,
        at_most: int | None = None,
        later: bool = True,
        queues: Iterable[str] | None = None,
        raises: bool = False,
    ) -> list[Ran]:
        """Run what waits, in the order in which it was published, and what that publishes, until nothing waits.

        What has an eta or a countdown, a retry too, comes after what has none; nobody waits for its time.

        Args:
            at_most: stop after so many messages.
            later: whether to run what is due later too; if not, it stays.
            queues: run only what is in queues of these names; None: whatever there is.
            raises: raise what the first task that fails raises, once that is written; what waits then, stays.

        Returns:
            What was run, in this order. A task that fails has its error there, and Celery logs it.

        Raises:
            NeverDrained: 10,000 messages were run, and there are more.
            ConfigurationError: the app's broker is not in memory, or a worker runs in this process.
            BlockMisuse: a transaction is open here.
        """
        self._check()
        ran: list[Ran] = []
        with self._inbox(queues) as inbox:
            while len(ran) != (ENOUGH if at_most is None else at_most):
                message = inbox.next(later=later)
                if message is None:
                    return ran
                with self._runtime.database.as_committed():
                    ran.append(run(self.app, message))
                if raises:
                    _raise(ran[-1])
            if at_most is None and inbox.peek(later=later) is not None:
                raise NeverDrained(number=ENOUGH, last=", ".join(str(one) for one in ran[-3:]))
        return ran

    def die(self) -> str:
        """Let another worker take the next message, begin its job, and be killed: nothing of the task runs.

        The job stays running until a sweep finds that the worker's lease has run out.

        Returns:
            The job's id.

        Raises:
            BlockMisuse: there is no message, or it is none of a job, or none that a worker would run.
            ConfigurationError: as for `drain`.
        """
        self._check()
        with self._inbox() as inbox:
            message = inbox.peek()
            delivery = None if message is None else Delivery.read(message.headers)
            if message is None or delivery is None or delivery.is_part:
                waits = "nothing waits" if message is None else f"what waits is {message.headers.get('task')}"
                raise BlockMisuse(problem=f"A worker dies with a job, and {waits}: enroll one first.")
            inbox.next()
            message.ack()
            self._begin(message, delivery.received(new_id()))
        return delivery.job_id

    def _begin(self, message: Any, delivery: Delivery) -> None:
        task, database = self.app.tasks[message.headers["task"]], self._runtime.database
        self._hear(str(delivery.worker_id))
        holder = holder_of(self._runtime, task, delivery)
        if claim(database, delivery.job_id, delivery.number, str(delivery.token), holder) is None:
            problem = f"A worker drops this message of job {delivery.job_id}, which was cancelled or sent again."
            raise BlockMisuse(problem=problem)

    def sweep(self) -> Swept:
        """Sweep once, as every worker does: give up the jobs of workers whose lease has run out, and so on.

        Returns:
            What was repaired: `lost`, `published`, `expired`, `released` and `batches`.
        """
        # Who sweeps lives, or silence would not mean death.
        self._hear(self._id)
        with self._runtime.database.as_committed():
            return sweep(self._runtime)

    def freeze(self) -> Clock:
        """Put a clock that stands still in the place of the database's own; move it on with `advance`."""
        clock = Clock()
        self._runtime.begin_anew(clock)
        # From now on somebody is heard of, without a pause.
        self._hear(self._id)
        take_turn(self._runtime.database, self._runtime.settings.sweep_interval)
        return clock

    def _hear(self, worker_id: str) -> None:
        database = self._runtime.database
        database.transact(leases.renew, database.tables, worker_id, socket.gethostname()[:255], os.getpid())

    def _check(self) -> None:
        if self._runtime.lease is not None:
            raise ConfigurationError(
                problem=f"A worker of this process (celery_worker) takes the messages of app {self.app.main!r}: "
                "wait for it, by batch.wait(timeout=30), or do without it."
            )

    def _inbox(self, queues: Iterable[str] | None = None) -> Inbox:
        # In a test's own transaction, what it has enrolled is published only now.
        with self._runtime.database.as_committed():
            pass
        return Inbox(self.app, self._now, queues)

    def _now(self) -> datetime:
        clock = self._runtime.clock
        # An eta is made by Python's clock, which goes on.
        return datetime.now(UTC) + (timedelta() if clock is None else clock.moved)


def _raise(ran: Ran) -> None:
    __tracebackhide__ = True
    if ran.error is not None and ran.state == "FAILURE":
        raise ran.error


def drain(
    app: Celery | None = None,
    *,
    at_most: int | None = None,
    later: bool = True,
    queues: Iterable[str] | None = None,
    raises: bool = False,
) -> list[Ran]:
    """Run what waits for a worker, here: see `InProcessWorker.drain`.

    Args:
        app: the Celery app; by default the current one, or the only one with Flows.
        at_most: stop after so many messages.
        later: whether to run what is due later too.
        queues: run only what is in queues of these names.
        raises: raise what the first task that fails raises.
    """
    return InProcessWorker(app).drain(at_most=at_most, later=later, queues=queues, raises=raises)
