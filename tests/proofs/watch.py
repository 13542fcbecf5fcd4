"""What must hold whatever happens: looked at after each step, and compared with what was seen before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from proofs.world import World

from celery_flows.queries.progress import progress
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

    def callbacks(self, batch: Any) -> list[Any]:
        """A batch's callbacks of this round."""
        return [job for job in self.jobs.values() if job.announces_id == batch.id and job.round == batch.round]


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
        return seen

    def _counts(self, seen: Seen, batch: Any) -> None:
        counted = progress(self.world.database, batch.id)
        assert counted.total == counted.complete + counted.failed + counted.cancelled + counted.pending
        real = [job for job in seen.of(batch.id) if job.kind != Kind.BLOCK or job.state == JobState.FAILED]
        assert counted.total == len(real), f"{batch.id}: {counted} of {len(real)} jobs"
        # What a cancelled batch tolerates asks nobody.
        if batch.state != BatchState.CANCELLED and not Tolerance.parse(batch.tolerate).is_none:
            wrong = sum(job.wrong for job in seen.of(batch.id))
            assert seen.wrong[batch.id] == wrong, f"{batch.id}: {seen.wrong[batch.id]} tallied, {wrong} went wrong"

    def _fate(self, seen: Seen, batch: Any) -> None:
        key = (batch.id, batch.round)
        assert (batch.state in UNDECIDED) == (batch.completed_at is None)
        assert self.fates.get(key, batch.state) == batch.state, f"{key}: {self.fates[key]} became {batch.state}"
        if batch.state in UNDECIDED or key in self.fates:
            return
        self.fates[key] = batch.state
        tolerance, jobs = Tolerance.parse(batch.tolerate), seen.of(batch.id)
        wrong = sum(job.wrong for job in jobs)
        is_abandoned = any(job.kind == Kind.BLOCK and job.wrong for job in jobs)
        is_too_much = is_abandoned or wrong > tolerance.limit(len([job for job in jobs if job.kind != Kind.BLOCK]))
        if batch.state != BatchState.CANCELLED:
            assert is_too_much == (batch.state == BatchState.FAILED), f"{key}: {batch.state}, {wrong} went wrong"

    def _finished(self, seen: Seen, batch: Any) -> None:
        key = (batch.id, batch.round)
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
            assert is_armed == due[Event(one.event)], f"{one.event} of {batch.id} is {one.state}: {batch.state}"
            assert batch.settled_at is None or one.state != JobState.WAITING

    def _outcome(self, seen: Seen, job: Any) -> None:
        batch = seen.batches[job.batch_id or job.announces_id]
        child = seen.batches.get(job.id)
        key = (job.id, job.round if job.announces_id else batch.round, child and child.round)
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

    def end(self) -> None:
        """Check that nothing is left to do."""
        seen = self.look()
        for batch in seen.batches.values():
            is_over = batch.settled_at is not None or batch.started_at is None
            assert is_over, f"{batch} is stranded: {seen.of(batch.id)}"
        for job in seen.jobs.values():
            batch = seen.batches[job.batch_id or job.announces_id]
            assert job.state in TERMINAL, f"{job} is left, of {batch}"
            if job.kind == Kind.CALLBACK and job.state not in UNARMED:
                assert job.id in self.world.published
