"""The reckoning: what must be true of every batch, job, callback and effect when the chaos is over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

from acceptance.writing import effects
from celery import Celery
from chaos.place import Place
from chaos.work import LASTING, WRITING
from sqlalchemy import exists, func, select

from celery_flows import Batch
from celery_flows.tolerance import Tolerance

#: States in which somebody still has something to do for a job.
ALIVE: Final = ("ready", "queued", "running", "retrying")

#: What ends a job that bears everything: its own error, or that its batch was cancelled.
OWN_ERRORS: Final = (None, "ValueError")

#: Which callback belongs to which fate.
EVENTS: Final = {"complete": "complete", "failed": "failure", "cancelled": None}


class Ledger:
    """All rows of a place, read once."""

    def __init__(self, place: Place) -> None:
        self.app = place.project.app
        self.unended = place.crew.unended
        tables = place.project.tables
        with place.operator.connect() as connection:
            self.batches = {row.id: row for row in connection.execute(tables.batches.select())}
            self.jobs = list(connection.execute(tables.jobs.select()))
            self.edges = list(connection.execute(tables.edges.select()))
            self.tallies = list(connection.execute(tables.tallies.select()))
            self.workers = list(connection.execute(tables.workers.select().where(tables.workers.c.id != "sweep")))
        self.effects = Counter(effects(place.database_url))

    @property
    def begun(self) -> list[Any]:
        """The batches of which anything was enrolled; of others a producer died before."""
        return [batch for batch in self.batches.values() if batch.started_at is not None]

    def batch_of(self, job: Any) -> Any:
        """The batch that a job belongs to or announces."""
        return self.batches[job.batch_id or job.announces_id]


def is_over(place: Place) -> bool:
    """Whether all batches that began are finished, their callbacks too, and dead workers are forgotten."""
    tables = place.project.tables
    batches, jobs, workers = tables.batches, tables.jobs, tables.workers
    unfinished = select(batches.c.id).where(batches.c.started_at.is_not(None), batches.c.settled_at.is_(None))
    alive = select(jobs.c.id).where(jobs.c.outcome.is_(None), jobs.c.state.in_(ALIVE))
    leases = select(func.count()).select_from(workers).where(workers.c.id != "sweep")
    with place.operator.connect() as connection:
        if connection.execute(exists(unfinished).select()).scalar() or connection.execute(alive.limit(1)).first():
            return False
        return (connection.scalar(leases) or 0) <= len(place.crew.workers)


def what_is_left(place: Place) -> str:
    """Why it is not over yet."""
    ledger = Ledger(place)
    alive = {job.batch_id or job.announces_id for job in ledger.jobs if job.state in ALIVE}
    ids = [batch.id for batch in ledger.begun if batch.settled_at is None or batch.id in alive]
    explained = [str(Batch.get(one, app=ledger.app).explain()) for one in ids]
    rows = [f"{job}" for job in ledger.jobs if job.state in ALIVE]
    leases = [
        f"worker {worker.id} {worker.hostname} {worker.pid}: {worker.heartbeat_at}" for worker in ledger.workers
    ]
    return "\n".join([*explained, *rows, *leases, *_memories(ledger.app), place.crew.said])


def _memories(app: Celery) -> list[str]:
    """What the workers say that they have."""
    asked = app.control.inspect(timeout=3.0)
    return [f"active: {asked.active()}", f"reserved: {asked.reserved()}"]


def problems(place: Place) -> list[str]:
    """Everything that is not as it must be."""
    ledger = Ledger(place)
    return [problem for check in CHECKS for problem in check(ledger)]


def _batches_are_finished(ledger: Ledger) -> Iterator[str]:
    for row in ledger.begun:
        batch = Batch.get(row.id, app=ledger.app)
        now = batch.progress
        if row.settled_at is None or row.completed_at is None:
            yield f"batch {row.id} is not finished: {batch.explain()}"
        elif now.pending or now.total != now.complete + now.failed + now.cancelled:
            yield f"batch {row.id} does not add up: {now}"
        elif not str(batch.explain()).endswith("It waits for nothing."):
            yield f"batch {row.id} waits: {batch.explain()}"


def _nothing_is_left(ledger: Ledger) -> Iterator[str]:
    for job in ledger.jobs:
        batch = ledger.batch_of(job)
        if job.state in ALIVE or (job.outcome is None and batch.started_at is not None):
            yield f"job {job.id} ({job.task}, {job.kind}) of batch {batch.id} was left {job.state}"
        elif batch.started_at is None and batch.settled_at is None and job.kind != "callback":
            yield f"job {job.id} ({job.task}, {job.kind}) belongs to batch {batch.id}, which never began"
        elif batch.started_at is None and batch.settled_at is not None and job.outcome is None:
            yield f"job {job.id} ({job.task}, {job.kind}) was left, and batch {batch.id} ended before it began"


def _no_worker_is_left(ledger: Ledger) -> Iterator[str]:
    for worker in ledger.workers:
        if worker.pid in ledger.unended:
            continue
        yield f"the lease {worker.id} of {worker.hostname}, process {worker.pid}, was left"


def _callbacks_fit(ledger: Ledger) -> Iterator[str]:
    rounds: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for job in ledger.jobs:
        if job.announces_id is not None and ledger.batches[job.announces_id].started_at is not None:
            rounds[job.announces_id, job.round][job.event].append(job.state)
    for (batch_id, number), states in rounds.items():
        batch = ledger.batches[batch_id]
        fates = [EVENTS[batch.state]] if number == batch.round else list(EVENTS.values())
        if number > batch.round or not any(dict(states) == _wanted(states, fate) for fate in fates):
            yield f"batch {batch_id} is {batch.state}; callbacks of round {number}: {dict(states)}"


def _wanted(states: dict[str, list[str]], fate: str | None) -> dict[str, list[str]]:
    return {event: ["complete" if event in (fate, "settled") else "skipped"] for event in states}


def _effects_happened_once(ledger: Ledger) -> Iterator[str]:
    writing = {job.id: job for job in ledger.jobs if job.task in WRITING}
    rounds = defaultdict[str, list[int]](list)
    for name in ledger.effects.elements():
        job_id, _, number = name.partition(" ")
        rounds[job_id].append(int(number))
    for job in writing.values():
        if not _fits(job, ledger.batch_of(job), sorted(rounds[job.id])):
            yield f"job {job.id} ({job.task}) is {job.state}, and its effect happened in rounds {rounds[job.id]}"
    for job_id in rounds.keys() - writing.keys():
        yield f"an effect of job {job_id} happened, which is not there"


def _fits(job: Any, batch: Any, rounds: list[int]) -> bool:
    """Whether a job's effect happened as its state says: never twice in a round."""
    is_complete = job.state == "complete"
    if job.announces_id is not None or batch.round == 1:
        return rounds == [int(job.announces_id is None)] * is_complete
    # What was complete may have run again, and may have ended otherwise then.
    return len(set(rounds)) == len(rounds) and (bool(rounds) if is_complete else batch.round not in rounds)


def _who_bears_everything_did(ledger: Ledger) -> Iterator[str]:
    for job in ledger.jobs:
        if job.task in LASTING and job.state == "failed" and job.error_class not in OWN_ERRORS:
            yield f"job {job.id} ({job.task}) failed: {job.error_class}: {job.error_message}"


def _fates_fit(ledger: Ledger) -> Iterator[str]:
    for batch in ledger.begun:
        # A join is nobody's work: where it is skipped, those behind it are counted.
        own = [job for job in ledger.jobs if job.batch_id == batch.id and job.kind != "join"]
        wrong = sum(job.wrong for job in own)
        if batch.state == "complete" and wrong > Tolerance.parse(batch.tolerate).limit(len(own)):
            yield f"batch {batch.id} is complete, and {wrong} of its {len(own)} jobs went wrong"


def _tallies_fit(ledger: Ledger) -> Iterator[str]:
    wrong = Counter[str]()
    for tally in ledger.tallies:
        wrong[tally.batch_id] += tally.wrong
    for batch in ledger.begun:
        found = sum(job.wrong for job in ledger.jobs if job.batch_id == batch.id and job.kind != "join")
        # Nobody counts in a batch that was cancelled: its fate is decided, and another round counts anew.
        is_counted = batch.state != "cancelled" and not Tolerance.parse(batch.tolerate).is_none
        if is_counted and wrong[batch.id] != found:
            yield f"batch {batch.id} is {batch.state}: {found} jobs went wrong, {wrong[batch.id]} were counted"


def _nobody_starts_too_early(ledger: Ledger) -> Iterator[str]:
    """As far as times tell it: another round writes them anew."""
    jobs = {job.id: job for job in ledger.jobs}
    # A flow may be retried on its own, when what waited for it, or for what came after it, has long begun.
    again = {one for batch in ledger.batches.values() if batch.round > 1 for one in (batch.id, batch.parent_id)}
    for edge in ledger.edges:
        awaited, dependent = jobs[edge.job_id], jobs[edge.dependent_id]
        batch = ledger.batch_of(dependent)
        # A join does not start: it is complete.
        begun_at = dependent.started_at or (dependent.ended_at if dependent.state == "complete" else None)
        if batch.id not in again and begun_at is not None and begun_at < awaited.ended_at:
            yield f"job {dependent.id} of batch {batch.id} began before {awaited.id} had ended"


CHECKS: Final[tuple[Callable[[Ledger], Iterator[str]], ...]] = (
    _batches_are_finished,
    _nothing_is_left,
    _no_worker_is_left,
    _callbacks_fit,
    _effects_happened_once,
    _who_bears_everything_did,
    _fates_fit,
    _tallies_fit,
    _nobody_starts_too_early,
)


def summary(place: Place) -> str:
    """How much was made of what, and how it ended."""
    ledger = Ledger(place)
    ends = Counter(batch.state for batch in ledger.begun)
    again = sum(batch.round - 1 for batch in ledger.begun)
    flows = sum(batch.flow is not None for batch in ledger.begun)
    losses = sum(job.losses for job in ledger.jobs)
    words = ", ".join(f"{number} {state}" for state, number in sorted(ends.items()))
    return (
        f"{len(ledger.begun)} batches ({words}), {flows} of them flows, {again} further rounds, "
        f"{len(ledger.jobs)} jobs and callbacks, "
        f"{losses} losses, {ledger.effects.total()} effects"
    )
