"""A small world around the transitions: a broker, workers that die and come back, producers, a clock, a sweep.

Everything happens in one thread; what two do at once is the business of `stepping.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import sqlalchemy as sa

from celery_flows.states import JobState
from celery_flows.store import batches, reopening
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import Statement
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.enroll import Share, enroll
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.lease import expire, give_up_missing, mark_reserved, renew, running_under
from celery_flows.transitions.lose import LossPolicy
from celery_flows.transitions.publish import Published, mark_published
from celery_flows.transitions.recover import (
    cancel_expired,
    recover_batches,
    release_left,
    take_overdue,
    take_turn,
    take_vanished,
)
from celery_flows.transitions.release import release_all
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.settle import settle

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds of a lease, and those that pass at a time: less than half a lease, so that it is no pause.
LEASE: Final = 110.0
TICK: Final = 50
#: Longer than anything: the database was away, or nobody was there.
PAUSE: Final = 5000

POLICY: Final = LossPolicy("fail", 3)

#: The worker that never dies, so that somebody is heard.
STEADY: Final = "steady"

_AGO: Final = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', {}, '-{} seconds')",
    "postgresql": "{} - make_interval(secs => {})",
    "mysql": "date_sub({}, interval {} second)",
}
_MOMENTS: Final = {
    "jobs": (
        "enrolled_at",
        "publishing_since",
        "queued_at",
        "expires_at",
        "started_at",
        "ended_at",
        "releasing_since",
    ),
    "workers": ("started_at", "heartbeat_at"),
}


class Died(BaseException):
    """The process that was at work is no more; like a kill, no `except Exception` stops it."""


class Mortal(Database):
    """A database of whose user one can say after how many commits it dies."""

    #: Commits, and messages to the broker, until death; None: it lives on.
    left: int | None = None

    def spend(self) -> None:
        """Live through one more commit or message, or die before it."""
        if self.left is not None:
            if self.left == 0:
                raise Died
            self.left -= 1

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.spend()
        return super().transact(work, *args, **kwargs)

    def run(self, statement: Statement, **values: Any) -> tuple[int, list[Any]]:
        self.spend()
        return super().run(statement, **values)

    def _make_engine(self) -> sa.Engine:
        engine = super()._make_engine()
        if self.dialect == "sqlite":
            sa.event.listen(engine, "connect", _never_wait_for_the_disk)
        return engine


def _never_wait_for_the_disk(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")


@dataclass
class Held:
    """A claim, as the process has it that runs the job."""

    job: ReadyJob
    token: str
    worker: str
    attempt: int
    #: Whether its worker has been alive all the time, so that nobody may take it away.
    is_safe: bool = True
    #: What it has tried to report already.
    outcome: JobState | None = None


@dataclass
class World:
    """Who is there besides the database."""

    database: Mortal
    broker: list[ReadyJob] = field(default_factory=list)
    #: Messages in the memory of workers.
    prefetched: dict[str, list[ReadyJob]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    workers: dict[str, bool] = field(default_factory=dict)
    #: Open streaming blocks, by id: batch, and whether their producer lives.
    blocks: dict[str, tuple[str, bool]] = field(default_factory=dict)
    #: How often each publish of a callback was handed to a publisher.
    armed: dict[tuple[str, int], int] = field(default_factory=dict)
    published: set[str] = field(default_factory=set)
    tokens: int = 0
    #: Whether who acted last came to the end of it.
    lived: bool = True
    #: Whether a batch has been retried since somebody looked.
    has_reopened: bool = False

    def begin(self) -> None:
        """Let the first workers come up."""
        take_turn(self.database, 0)
        for worker in (STEADY, "w1", "w2"):
            self.workers[worker] = True
        self.renew()

    # ------------------------------------------------------------ who does what, and dies

    def does(self, act: Callable[[], Iterable[ReadyJob]], dies_after: int | None = None) -> bool:
        """Let a process do something, and publish what became ready by it; say whether it lived."""
        self.database.left, self.lived = dies_after, True
        try:
            ready = list(act())
            for job in ready:
                if job.announces_id is not None:
                    self.armed[job.id, job.delivery] = self.armed.get((job.id, job.delivery), 0) + 1
            self.publish(ready)
        except Died:
            self.lived = False
        finally:
            self.database.left = None
        return self.lived

    def publish(self, ready: Iterable[ReadyJob]) -> None:
        """Hand messages to the broker, then note it."""
        for job in ready:
            self.database.spend()
            self.broker.append(job)
            self.published.add(job.id)
            mark_published(self.database, [Published(job.id, job.delivery, "celery", 0.0)])

    # ------------------------------------------------------------ workers

    def takes(self, worker: str, job: ReadyJob) -> bool:
        """Let a worker claim a job for a message that it got; say whether it may run it."""
        self.tokens += 1
        token = f"t{self.tokens}"
        attempt = claim(self.database, job.id, job.delivery, token, Holder(worker, LEASE))
        if attempt is not None:
            self.held[token] = Held(job, token, worker, attempt, is_safe=self.workers[worker])
        return attempt is not None

    def reports(self, held: Held, outcome: JobState, dies_after: int | None = None) -> None:
        """Let a worker settle what it ran; one that dies of it may still report late, but nothing else."""
        held.outcome = held.outcome or outcome
        job = held.job
        ending = Ending(job.id, held.outcome, delivery=job.delivery, token=held.token, blocks=bool(job.blocks))
        lived = self.does(
            lambda: settle(self.database, ending, batch_id=job.batch_id, announces_id=job.announces_id), dies_after
        )
        if lived:
            del self.held[held.token]
        else:
            held.is_safe = False
            self.falls_silent(held.worker)

    def prefetches(self, worker: str, job: ReadyJob) -> None:
        """Move a message, acknowledged at once, into a worker's memory."""
        self.prefetched.setdefault(worker, []).append(job)
        mark_reserved(self.database, worker, {job.id: job.delivery})

    def falls_silent(self, worker: str) -> None:
        """Let a worker renew its lease no more: it is dead or stopped."""
        if worker == STEADY:
            return
        self.workers[worker] = False
        for held in self.held.values():
            if held.worker == worker:
                held.is_safe = False

    def comes_back(self, worker: str) -> None:
        """Let a worker that was stopped go on: it renews, and gives up what it does not have."""
        self.workers[worker] = True
        renew(self.database, worker, "host", 1, LEASE)
        for missing in running_under(self.database, worker):
            if missing.token not in self.held:
                self.does(lambda missing=missing: give_up_missing(self.database, missing, POLICY))

    def renew(self) -> None:
        """Let everybody who lives say so."""
        living = [worker for worker, lives in self.workers.items() if lives]
        living += [block for block, (_, lives) in self.blocks.items() if lives]
        for worker in living:
            renew(self.database, worker, "host", 1, LEASE)

    # ------------------------------------------------------------ time, and the sweep

    def pass_time(self, seconds: int = TICK) -> None:
        """Let time pass, by making everything older, and the living renew their leases."""
        ago = _AGO[self.database.dialect]

        def shift(connection: Connection) -> None:
            for noun, columns in _MOMENTS.items():
                moves = ", ".join(f"{column} = {ago.format(column, seconds)}" for column in columns)
                connection.exec_driver_sql(f"UPDATE flows_{noun} SET {moves}")

        self.database.transact(shift)
        self.renew()

    def sweep(self, dies_after: int | None = None, patience: float = 10 * TICK) -> None:
        """Do what a pass of the sweep does; if it dies on the way, the rest is left."""
        passes: list[Callable[[], Iterable[ReadyJob]]] = [
            lambda: expire(self.database, LEASE, POLICY).ready,
            lambda: cancel_expired(self.database)[1],
            lambda: release_left(self.database, LEASE)[1],
            lambda: recover_batches(self.database)[1],
            lambda: take_overdue(self.database, LEASE, 100),
            lambda: self._vanished(patience),
        ]
        for one in passes:
            lived = self.does(one, dies_after)
            if not lived:
                return

    def _vanished(self, patience: float) -> Iterator[ReadyJob]:
        for taken in take_vanished(self.database, patience, 100, lambda _: not self.broker):
            yield from taken

    def reopens(self, batch_id: str, mode: Mode, dies_after: int | None = None) -> None:
        """Retry a batch as its user does."""

        def again() -> Iterator[ReadyJob]:
            for reopened in reopen(self.database, batch_id, mode):
                with self.database.reading() as connection:
                    ready = reopening.ready_after(connection, self.database.tables, reopened, "", 100)
                yield from ready
                yield from release_all(self.database, reopened)
                yield from advance(self.database, reopened)

        self.has_reopened = True
        self.does(again, dies_after)

    # ------------------------------------------------------------ the end

    def calm_down(self, batch_ids: Iterable[str]) -> None:
        """Let what is dead stay dead, and the rest be done: a few sweeps, and a worker that runs what comes."""
        self.held = {token: held for token, held in self.held.items() if held.worker == STEADY}
        self.broker += self.prefetched.pop(STEADY, [])
        self.workers = {STEADY: True}
        self.blocks = {block: (batch, False) for block, (batch, _) in self.blocks.items()}
        for _ in range(8):
            for _ in range(3):
                self.pass_time()
            # A child of its may have died with a job, which only its own audit notices.
            self.comes_back(STEADY)
            self.sweep(patience=0)
            while self.broker or self.held:
                for held in list(self.held.values()):
                    self.reports(held, JobState.COMPLETE)
                if self.broker:
                    self.takes(STEADY, self.broker.pop(0))
            for batch_id in batch_ids:
                self._begin(batch_id)

    def _begin(self, batch_id: str) -> None:
        """A batch whose first block never came, failed or not, waits for its user: to open it, or to cancel it."""
        with self.database.reading() as connection:
            batch = batches.standing(connection, self.database.tables, batch_id)
        if batch is None or batch.has_begun:
            return
        if int(batch_id.strip("b")) % 2:
            self.does(lambda: cancel(self.database, batch_id).ready)
        else:
            self.database.transact(enroll, self.database.tables, [], [Share(batch_id, 0, True)])
            self.does(lambda: advance(self.database, batch_id))


def in_a_while(seconds: int = 2 * TICK) -> str:
    """A moment to come, as a call's `expires` says it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
