"""What things cost: statements as the driver sends them, transactions and round trips for nothing included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphs import BATCH, start
from scenes import add_callback, enroll_jobs, make_batch, running_batch
from wire import Said, listening

from celery_flows.queries.batches import batch, batches
from celery_flows.queries.jobs import JobList
from celery_flows.queries.progress import progress
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending, complete
from celery_flows.transitions.claim import claim
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.publish import Published, mark_published
from celery_flows.transitions.recover import take_overdue
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import open_stream


class Count:
    """Statements said since the last look."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self._seen = 0

    def since(self) -> list[str]:
        """What was said meanwhile."""
        said = self._said()
        new, self._seen = said[self._seen :], len(said)
        return new


@pytest.fixture
def counted(database: Database, tmp_path: Path) -> Iterator[Count]:
    """Counts what the database is sent, with a connection open already."""
    with listening(database, tmp_path) as said:
        progress(database, make_batch(database))
        count = Count(said)
        assert count.since(), "nothing is heard"
        yield count


def test_a_job_that_succeeds_costs_three_statements(database: Database, counted: Count) -> None:
    """Claim, settle, probe; no BEGIN, COMMIT, ROLLBACK or SET between them, also once they are prepared."""
    batch_id, jobs = running_batch(database, 12)
    counted.since()
    for job in jobs[:-1]:
        claim(database, job, 1, "t")
        settle(database, Ending(job, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch_id)
        assert len(counted.since()) == 3


def test_a_job_that_fails_costs_what_one_that_succeeds_does(database: Database, counted: Count) -> None:
    """Claim, outcome with its tally, one look; where the outcome can't tally, the two are a transaction."""
    batch_id, jobs = running_batch(database, 12, tolerate="50%")
    counted.since()
    for job in jobs[:-7]:
        claim(database, job, 1, "t")
        settle(database, Ending(job, JobState.FAILED, "ValueError", "broken", 1, "t"), batch_id=batch_id)
        assert len(counted.since()) == (3 if database.dialect == "postgresql" else 6)


def test_a_job_that_fails_in_a_batch_that_has_failed_costs_no_more(database: Database, counted: Count) -> None:
    """Nothing is left to decide, whether something is tolerated or nothing."""
    for tolerate in ("0", "1"):
        batch_id, [*jobs, _] = running_batch(database, 6, tolerate=tolerate)
        costs = []
        for job in jobs:
            claim(database, job, 1, "t")
            counted.since()
            settle(database, Ending(job, JobState.FAILED, "ValueError", "broken", 1, "t"), batch_id=batch_id)
            costs.append(len(counted.since()))
        assert costs[-3:] == [2 if database.dialect == "postgresql" else 5] * 3


def test_a_job_that_fails_while_a_stream_is_open_looks_at_no_other(database: Database, counted: Count) -> None:
    """More than the share of what is known so far: nothing is decided, and what failed is not gone through."""
    batch_id, [job, *_] = running_batch(database, 3, tolerate="5%")
    database.transact(open_stream, database.tables, "block", batch_id, starts=False)
    claim(database, job, 1, "t")
    counted.since()
    settle(database, Ending(job, JobState.FAILED, "ValueError", "broken", 1, "t"), batch_id=batch_id)
    # By its beginning, of which all three databases tell.
    assert not [one for one in counted.since() if "SELECT (SELECT" in one]


def test_a_step_costs_a_fixed_number(database: Database, counted: Count) -> None:
    """A job of a sequence ends, and lets the next one go: one statement where that can be, and one for its mark.

    Nobody looks for an unfinished job: there is the next.
    """
    start(database, " ".join(f"{number}>{number + 1}" for number in range(1, 9)))
    for number in range(1, 8):
        claim(database, str(number), 1, "t")
        counted.since()
        ending = Ending(str(number), JobState.COMPLETE, delivery=1, token="t", blocks=True)
        [after] = settle(database, ending, batch_id=BATCH)
        # Elsewhere, the outcome; close, due, BEGIN, hold, judge, ready, COMMIT, forget.
        assert len(counted.since()) == (1 if database.dialect == "postgresql" else 1 + 8)
        mark_published(database, [Published.of(after)])
        assert len(counted.since()) == 1


def test_a_duplicate_costs_one_statement(database: Database, counted: Count) -> None:
    """A message out of date is turned away by the claim itself."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    counted.since()
    claim(database, job, 1, "another")
    assert len(counted.since()) == 1


def test_enrolling_costs_a_fixed_number(database: Database, counted: Count) -> None:
    """A thousand jobs cost what one costs, or the time more, and each further thousand one statement: its rows."""
    costs = []
    for jobs in (1, 1_000, 3_000):
        batch_id = make_batch(database)
        counted.since()
        enroll_jobs(database, batch_id, jobs)
        costs.append(len(counted.since()))
    # BEGIN, now, rows, lock, start, COMMIT; PostgreSQL takes few rows in a statement that knows what time it is.
    assert costs[0] == (5 if database.dialect == "postgresql" else 6)
    # SQLite's rows are all one to its listener.
    assert costs[1:] == [6, 6 if database.dialect == "sqlite" else 8]


def test_growing_costs_less_than_starting(database: Database, counted: Count) -> None:
    """A batch that runs is locked shared and not written."""
    batch_id, _ = running_batch(database)
    counted.since()
    enroll_jobs(database, batch_id, 1_000, starts=False)
    said = counted.since()
    assert len(said) == 5
    assert not any("UPDATE" in words for words in said)


def test_marking_a_chunk_costs_a_fixed_number(database: Database, counted: Count) -> None:
    """However many messages a publisher marks, it is one transaction with one UPDATE."""
    _, jobs = running_batch(database, 1_000)
    ready = take_overdue(database, 0, 1_000)
    counted.since()
    mark_published(database, map(Published.of, ready))
    assert len(counted.since()) == 3
    assert len(ready) == len(jobs)


@pytest.mark.parametrize("callbacks", [0, 3])
def test_finishing_costs_a_fixed_number(database: Database, counted: Count, callbacks: int) -> None:
    """What is decided at the end does not depend on how many jobs there were, nor on how many callbacks."""
    batch_id, jobs = running_batch(database, 50)
    for _ in range(callbacks):
        add_callback(database, batch_id, "complete")
    for job in jobs:
        claim(database, job, 1, "t")
        database.run(complete, at_id=job, at_delivery=1, at_token="t")
    counted.since()
    assert len(advance(database, batch_id)) == callbacks
    assert len(counted.since()) == (8 if callbacks else 7)


def test_looking_costs_one_statement(database: Database, counted: Count) -> None:
    """Progress, status, a list, its length, an index, a slice: one query each, and nothing around it."""
    batch_id, _ = running_batch(database, 5)
    pending = JobList(database, batch_id, None)
    looks = [
        lambda: progress(database, batch_id),
        lambda: batch(database, batch_id),
        lambda: batches(database, tag="a"),
        lambda: [job.id for job in pending],
        lambda: len(pending),
        lambda: pending[1],
        lambda: pending[1:3],
        lambda: repr(pending),
    ]
    counted.since()
    costs = []
    for look in looks:
        look()
        costs.append(len(counted.since()))
    assert costs == [1, 1, 1, 1, 1, 1, 1, 0]


def test_looking_from_the_end_costs_two(database: Database, counted: Count) -> None:
    """An index or slice from the end needs the length first, and then one query."""
    pending = JobList(database, running_batch(database, 5)[0], None)
    counted.since()
    assert len(pending[-3:]) == 3
    assert len(counted.since()) == 2
    assert pending[-1].id > pending[-2].id
    assert len(counted.since()) == 4
