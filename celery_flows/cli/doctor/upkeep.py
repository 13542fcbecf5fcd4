"""Checks of what runs: the sweep, the workers' leases, and what is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from celery_flows.cli.doctor.finding import Finding, ok, warning, wrong
from celery_flows.cli.words import age, counted
from celery_flows.queries.health import Due, Upkeep
from celery_flows.queries.workers import WorkerRecord
from celery_flows.settings import Settings

#: Sweeps that may fail to come.
_MISSED: Final = 4

_RECONCILE: Final = "celery -A your_project flows reconcile"
_START: Final = "Start one: celery -A your_project worker"


def sweep(found: Upkeep, settings: Settings) -> Finding:
    """Whether somebody repairs what a crash leaves behind."""
    interval = settings.sweep_interval
    fact = "There was no sweep yet." if found.swept is None else f"The last sweep was {age(found.swept)} ago."
    if found.swept is not None and found.swept <= _MISSED * interval:
        return ok("sweep", f"{fact} One comes each {interval:g} s.")
    remedy = f"Each worker sweeps. Where none runs for long, let cron or beat do so: {_RECONCILE}"
    if found.unfinished:
        left = f"{counted(found.unfinished, 'batch', 'batches')} unfinished."
        return wrong("sweep", f"{fact} {left}", remedy)
    return warning("sweep", fact, remedy)


def workers(found: Sequence[WorkerRecord], left: Upkeep, settings: Settings, dialect: str) -> Iterator[Finding]:
    """Whether there are workers, and whether they hold their leases."""
    lease = settings.lease_timeout
    alive = [one for one in found if one.silence < lease / 2]
    hosts = sorted({one.hostname for one in alive})
    if alive:
        jobs = sum(one.jobs for one in alive)
        processes = counted(len(alive), "process", "processes")
        do = "holds a lease and runs" if len(alive) == 1 else "hold leases and run"
        yield ok("workers", f"{processes} on {', '.join(hosts[:5])} {do} {counted(jobs, 'job')}.")
    elif left.unfinished:
        yield wrong("workers", "No worker holds a lease, and batches are unfinished.", _START)
    else:
        yield warning("workers", "No worker holds a lease.", _START)
    for one in found:
        if one.silence >= lease / 2:
            yield _silent(one, lease)
    if dialect == "sqlite" and len(hosts) > 1:
        fact = f"Workers on {len(hosts)} hosts share an SQLite file."
        yield wrong("workers", fact, "Its locks don't hold across machines: use PostgreSQL, MySQL or MariaDB.")


def _silent(worker: WorkerRecord, lease: float) -> Finding:
    who = f"{worker.hostname}, process {worker.pid}, is silent for {age(worker.silence)}"
    if worker.silence < lease:
        remedy = f"It can't renew its lease: see its log. After {lease:g} s it takes no more jobs."
        return warning("workers", f"{who}.", remedy)
    remedy = "It is dead, or can't reach the database: see its log. The next sweep gives up what it ran."
    return warning("workers", f"{who}, with {counted(worker.jobs, 'job')}.", remedy)


def lag(found: Upkeep, settings: Settings) -> Iterator[Finding]:
    """Whether what is due is done."""
    late = [
        *_late(found.publishing, "to be published", settings.lease_timeout),
        *_late(found.releasing, "to let others go", settings.lease_timeout),
        *_stranded(found),
        *_waiting_long(found, settings.requeue_after),
    ]
    if late:
        yield from late
    else:
        waiting = [_waiting(queue, due) for queue, due in found.queues.items()]
        yield ok("lag", " ".join(waiting[:5]) or "Nothing is overdue, and no job waits in a queue.")


def _stranded(found: Upkeep) -> Iterator[Finding]:
    if found.stranded:
        fact = f"Nobody has decided what has nothing left to wait for: batch {', '.join(found.stranded)}."
        yield warning("lag", fact, f"The next sweep does. Now: {_RECONCILE}")


def _waiting_long(found: Upkeep, patience: float) -> Iterator[Finding]:
    callbacks = found.callbacks
    if callbacks.number and callbacks.seconds > patience:
        fact = f"{counted(callbacks.number, 'callback')} due, the first for {age(callbacks.seconds)}."
        yield warning("lag", fact, "See that a worker consumes their queue: flows explain says which that is.")
    for queue, due in found.queues.items():
        if due.seconds > patience:
            remedy = "Start more workers for it, or see why those that run are slow."
            yield warning("lag", _waiting(queue, due), remedy)


def _late(due: Due, what: str, patience: float) -> Iterator[Finding]:
    if due.number and due.seconds > patience:
        fact = f"{counted(due.number, 'job')} {what}, the first for {age(due.seconds)}."
        yield warning("lag", fact, f"The next sweep does it. Now: {_RECONCILE}")


def _waiting(queue: str | None, due: Due) -> str:
    where = "a queue that is not known" if queue is None else f"queue {queue!r}"
    return f"{counted(due.number, 'job')} in {where}, the first for {age(due.seconds)}."
