"""What must hold whatever happens: looked at after each step, and compared with what was seen before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from proofs.world import LEASE, World

from celery_flows.queries.explain import explain
from celery_flows.queries.progress import progress
from celery_flows.settings import Settings
from celery_flows.states import TERMINAL, BatchState, Event, JobState, Kind
from celery_flows.store.database import Database
from celery_flows.tolerance import Tolerance

UNDECIDED = (BatchState.PENDING, BatchState.RUNNING)
#: The states of a callback whose event has not come, or will not.
UNARMED = (JobState.WAITING, JobState.SKIPPED)


@dataclass
class Seen:
    """All rows at one moment."""

    batches: dict[str, Any]
    jobs: dict[str, Any]
    wrong: Counter[str]

    @classmethod
    def now(cls, database: Database) -> Seen:
        """Read everything."""
        tables = database.tables
        with database.reading() as connection:
            batches = connection.execute(sa.select(tables.batches)).all()
            jobs = connection.execute(sa.select(tables.jobs)).all()
            tallies = connection.execute(sa.select(tables.tallies)).all()
        wrong: Counter[str] = Counter()
        for tally in tallies:
            wrong[tally.batch_id] += tally.wrong
        return cls({row.id: row for row in batches}, {row.id: row for row in jobs}, wrong)

    def of(self, batch_id: str) -> list[Any]:
        """A batch's jobs, children and blocks."""
        return [job for job in self.jobs.values() if job.batch_id == batch_id]

    def went_wrong(self, batch_id: str) -> int:
        """How many of a batch's jobs count against its tolerance."""
        return sum(job.wrong for job in self.of(batch_id) if job.kind != Kind.JOIN)

    def callbacks(self, batch: Any) -> list[Any]:
        """A batch's callbacks of this round."""
        return [job for job in self.jobs.values() if job.announces_id == batch.id and job.round == batch.round]


def _has_begun(batch: Any) -> bool:
    """Whether it was a flow's turn: one that ends before says nothing, and may begin in the same round."""
    return batch.started_at is not None or batch.state == BatchState.PENDING


def _is_real(job: Any) -> bool:
    """Whether a row is a job to a user."""
    if job.kind == Kind.BLOCK:
        return bool(job.state == JobState.FAILED)
    return job.kind != Kind.JOIN and (job.kind != Kind.PLAN or job.state != JobState.COMPLETE)


@dataclass
class Watch:
    """Holds each moment against the rules, and against the moment before."""

    world: World
    fates: dict[tuple[str, int], str] = field(default_factory=dict)
    finished: dict[tuple[str, int], int] = field(default_factory=dict)
    outcomes: dict[tuple[Any, ...], str] = field(default_factory=dict)
    #: The job whose result has come late in this step: a loss of it may turn into a success.
    late: str | None = None

    def look(self) -> Seen:
        """Check everything, and remember it."""
        seen = Seen.now(self.world.database)
        for batch in seen.batches.values():
            self._counts(seen, batch)
            self._fate(seen, batch)
            self._finished(seen, batch)
            self._callbacks(seen, batch)
        for job in seen.jobs.values():
            self._outcome(seen, job)
        self._claims(seen)
        twice = [key for key, number in self.world.armed.items() if number > 1]
        assert twice == [], f"handed to two publishers: {twice}"
        self.world.has_reopened = False
        return seen

    def _counts(self, seen: Seen, batch: Any) -> None:
        counted = progress(self.world.database, batch.id)
        assert counted.total == counted.complete + counted.failed + counted.cancelled + counted.pending
        real = [job for job in seen.of(batch.id) if _is_real(job)]
        assert counted.total == len(real), f"{batch.id}: {counted} of {len(real)} jobs"
        # What a cancelled batch tolerates asks nobody.
        if batch.state != BatchState.CANCELLED and not Tolerance.parse(batch.tolerate).is_none:
            wrong = seen.went_wrong(batch.id)
            assert seen.wrong[batch.id] == wrong, f"{batch.id}: {seen.wrong[batch.id]} tallied, {wrong} went wrong"

    def _fate(self, seen: Seen, batch: Any) -> None:
        key = (batch.id, batch.round)
        assert (batch.state in UNDECIDED) == (batch.completed_at is None)
        if not _has_begun(batch):
            return
        assert self.fates.get(key, batch.state) == batch.state, f"{key}: {self.fates[key]} became {batch.state}"
        if batch.state in UNDECIDED or key in self.fates:
            return
        self.fates[key] = batch.state
        tolerance, jobs = Tolerance.parse(batch.tolerate), seen.of(batch.id)
        wrong = seen.went_wrong(batch.id)
        is_incomplete = any(job.kind in (Kind.BLOCK, Kind.PLAN) and job.wrong for job in jobs)
        calls = [job for job in jobs if job.kind in (Kind.TASK, Kind.BATCH)]
        is_too_much = is_incomplete or wrong > tolerance.limit(len(calls))
        if batch.state != BatchState.CANCELLED:
            assert is_too_much == (batch.state == BatchState.FAILED), f"{key}: {batch.state}, {wrong} went wrong"

    def _finished(self, seen: Seen, batch: Any) -> None:
        key = (batch.id, batch.round)
        if not _has_begun(batch):
            return
        if batch.settled_at is None:
            assert key not in self.finished, f"{key} was finished, and is no more"
            return
        jobs = seen.of(batch.id)
        left = [(job.id, job.state) for job in jobs if job.state not in TERMINAL]
        assert left == [], f"{key} is finished, and {left} are not"
        assert batch.state not in UNDECIDED
        assert self.finished.setdefault(key, len(jobs)) == len(jobs), f"{key} has gained a job after its end"

    def _callbacks(self, seen: Seen, batch: Any) -> None:
        callbacks = seen.callbacks(batch)
        due = {
            Event.COMPLETE: batch.state == BatchState.COMPLETE,
            Event.FAILURE: batch.state == BatchState.FAILED,
            Event.SETTLED: batch.settled_at is not None,
        }
        for one in callbacks:
            is_armed = one.state not in UNARMED
            assert is_armed == (_has_begun(batch) and due[Event(one.event)]), (
                f"{one.event} of {batch.id} is {one.state}: {batch.state}"
            )
            assert batch.settled_at is None or one.state != JobState.WAITING

    def _outcome(self, seen: Seen, job: Any) -> None:
        batch = seen.batches[job.batch_id or job.announces_id]
        child = seen.batches.get(job.id)
        key = (job.id, job.round if job.announces_id else batch.round, child and child.round)
        if self.world.has_reopened and self.outcomes.get(key) != JobState.COMPLETE:
            # What had waited in vain for a flow that runs again waits again in the same round.
            self.outcomes.pop(key, None)
        if job.state not in TERMINAL:
            assert key not in self.outcomes, f"{key} was {self.outcomes[key]}, and is {job.state}"
            return
        before = self.outcomes.get(key, job.state)
        is_late = job.id == self.late and (before, job.state) == (JobState.FAILED, JobState.COMPLETE)
        assert before == job.state or is_late, f"{key} was {before}, and is {job.state}"
        self.outcomes[key] = job.state
        if child is not None and batch.settled_at is None:
            assert child.settled_at is not None, f"{job.id} ended in its parent, and is not finished"

    def _claims(self, seen: Seen) -> None:
        safe = [held for held in self.world.held.values() if held.is_safe]
        assert max(Counter(held.job.id for held in safe).values(), default=0) <= 1
        for held in safe:
            job = seen.jobs[held.job.id]
            assert (job.state, job.token) == (JobState.RUNNING, held.token), f"{held} was taken away: {job}"

    def explanations(self) -> None:
        """Check that for each batch something is named that it waits for, or that it waits for nothing."""
        seen = Seen.now(self.world.database)
        for batch in seen.batches.values():
            callbacks = [
                one for one in seen.jobs.values() if one.announces_id == batch.id and one.state not in UNARMED
            ]
            is_over = batch.settled_at is not None and all(one.state in TERMINAL for one in callbacks)
            found = explain(self.world.database, batch.id, Settings(lease_timeout=LEASE))
            assert bool(found.reasons) != is_over, f"{batch}: {found}"

    def end(self) -> None:
        """Check that nothing is left to do."""
        seen = self.look()
        for batch in seen.batches.values():
            # One whose maker died before it stood in its parent is nobody's, and holds nothing up.
            is_orphan = batch.parent_id is not None and batch.id not in seen.jobs
            is_over = batch.settled_at is not None or (is_orphan and batch.started_at is None)
            assert is_over, f"{batch} is stranded: {seen.of(batch.id)}"
        for job in seen.jobs.values():
            batch = seen.batches[job.batch_id or job.announces_id]
            assert job.state in TERMINAL, f"{job} is left, of {batch}"
            if job.kind == Kind.CALLBACK and job.state not in UNARMED:
                assert job.id in self.world.published
