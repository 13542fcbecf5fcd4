"""What two do at once: small scenes, those who act in them, and what must hold when they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from proofs.stepping import Act, Course
from scenes import add_callback, call, enroll_jobs, make_batch

from celery_flows.errors import BatchCancelled, BatchFinished, BatchUnfinished, EnrolmentAbandoned
from celery_flows.states import TERMINAL, BatchState, Event, JobState, Kind
from celery_flows.store import jobs
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import tables
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.claim import claim
from celery_flows.transitions.enroll import Share, enroll
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.listen import NewCallback, listen
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.recover import recover_batches, take_overdue
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import abandon_stream, close_stream, open_stream

#: A refusal is a fine answer.
REFUSALS: Final = (BatchFinished, BatchCancelled, BatchUnfinished, EnrolmentAbandoned)

BATCH, PARENT = "batch", "parent"


# ---------------------------------------------------------------- scenes


@dataclass
class Scene:
    """All rows at the beginning, to begin with them again and again."""

    database: Database
    rows: dict[str, list[dict[str, Any]]]
    #: The callbacks that were armed before.
    armed: set[str]

    @classmethod
    def of(cls, database: Database, make: Callable[[Database], None]) -> Scene:
        """Make a scene, and remember its rows."""
        make(database)
        rows: dict[str, list[dict[str, Any]]] = {}
        with database.reading() as connection:
            for table in database.tables.metadata.sorted_tables:
                written = [column for column in table.columns if column.computed is None]
                rows[table.name] = [dict(found._mapping) for found in connection.execute(sa.select(*written))]
        return cls(database, rows, _armed(_rows(database, "jobs")))

    @staticmethod
    def empty(database: Database) -> None:
        """Leave no row."""
        Scene(database, {table: [] for table in database.tables.metadata.tables}, set()).begin()

    def begin(self) -> None:
        """Write the rows as they were."""
        self.database.transact(self._write)

    def _write(self, connection: Connection) -> None:
        for table in self.database.tables.metadata.sorted_tables:
            connection.execute(table.delete())
            if self.rows[table.name]:
                connection.execute(table.insert(), self.rows[table.name])


def two_run(database: Database, tolerate: str = "0") -> None:
    """A batch with two jobs that run, and a callback for each event."""
    make_batch(database, id=BATCH, tolerate=tolerate)
    enroll_jobs(database, BATCH, [call(BATCH, "one"), call(BATCH, "two")])
    for event in Event:
        add_callback(database, BATCH, event)
    for job in ("one", "two"):
        assert claim(database, job, 1, f"token-{job}") == 1


def two_run_tolerated(database: Database) -> None:
    """The same, where one job may fail."""
    two_run(database, "1")


def one_is_left(database: Database) -> None:
    """Of the two jobs one has ended."""
    two_run(database)
    settle(database, Ending("two", JobState.COMPLETE, delivery=1, token="token-two"), batch_id=BATCH)


def one_is_left_the_other_failed(database: Database) -> None:
    """Of the two jobs one has failed, and so the batch has."""
    two_run(database)
    settle(database, Ending("two", JobState.FAILED, delivery=1, token="token-two"), batch_id=BATCH)


def undecided(database: Database) -> None:
    """Both jobs have ended, and whoever should have looked then has died."""
    two_run(database)
    for job in ("one", "two"):
        ending = Ending(job, JobState.COMPLETE, delivery=1, token=f"token-{job}")
        database.transact(_ends, ending)


def _ends(connection: Connection, ending: Ending) -> None:
    assert jobs.end(connection, tables(), ending)


def finished(database: Database) -> None:
    """A batch that has failed by one job, and is over."""
    one_is_left_the_other_failed(database)
    settle(database, Ending("one", JobState.COMPLETE, delivery=1, token="token-one"), batch_id=BATCH)


def one_is_left_of_a_stream(database: Database) -> None:
    """A job runs, and a streaming block is open."""
    one_is_left(database)
    database.transact(open_stream, database.tables, "block", BATCH, starts=False)


def nested(database: Database) -> None:
    """The last job of a child runs, and the last job of its parent besides it."""
    make_batch(database, id=PARENT)
    enroll_jobs(database, PARENT, [call(PARENT, "own")])
    make_batch(database, id=BATCH, parent=PARENT)
    enroll_jobs(database, BATCH, [call(BATCH, "one")])
    for batch in (BATCH, PARENT):
        add_callback(database, batch, Event.COMPLETE)
        add_callback(database, batch, Event.FAILURE)
    for job in ("one", "own"):
        assert claim(database, job, 1, f"token-{job}") == 1


# ---------------------------------------------------------------- actors


def ends(job: str, state: JobState = JobState.COMPLETE, batch: str = BATCH, *, is_told: bool = True) -> Act:
    """A worker settles a job, told or not by its message that others wait for that."""
    ending = Ending(job, state, delivery=1, token=f"token-{job}", blocks=is_told)
    return lambda database: settle(database, ending, batch_id=batch)


def adds_as(job: str) -> Act:
    """A job of the batch adds another."""

    def act(database: Database) -> list[ReadyJob]:
        database.transact(enroll, database.tables, [[call(BATCH, job)]], [Share(BATCH, 1, starts=False)])
        return []

    return act


adds = adds_as("more")


def tries_again(job: str) -> Act:
    """A job that runs asks for another attempt."""
    attempt = NextAttempt(job, 1, f"token-{job}", "shop.score", "[2]", "{}", "{}")
    return lambda database: retry_job(database, attempt)


def listens(event: str) -> Act:
    """A user adds a callback."""
    callback = NewCallback("late", BATCH, Event(event), "shop.tell", "[]", "{}", "{}")
    return lambda database: database.transact(listen, database.tables, callback)


def sweeps(database: Database) -> list[ReadyJob]:
    """The sweep decides what is not decided."""
    return recover_batches(database)[1]


def republishes(database: Database) -> list[ReadyJob]:
    """The sweep takes over what was not published."""
    take_overdue(database, 0, 10)
    return []


def advances(database: Database) -> list[ReadyJob]:
    """Somebody whose job has ended looks."""
    return advance(database, BATCH, went_wrong=True)


def cancels(batch: str = BATCH) -> Act:
    """A user cancels."""
    return lambda database: cancel(database, batch).ready


def reopens(mode: Mode = Mode.ALL) -> Act:
    """A user retries, and looks whether anything is left to run."""

    def act(database: Database) -> list[ReadyJob]:
        return [job for batch in reopen(database, BATCH, mode) for job in advance(database, batch)]

    return act


def loses(job: str, on_loss: str = "fail") -> Act:
    """The sweep gives a job up whose worker is dead, or seems so."""
    return lambda database: lose(database, job, f"token-{job}", LossPolicy(on_loss, 3), "it died")[1]


def claims(job: str, delivery: int, token: str) -> Act:
    """A worker takes a job."""

    def act(database: Database) -> list[ReadyJob]:
        claim(database, job, delivery, token)
        return []

    return act


def closes(database: Database) -> list[ReadyJob]:
    """A streaming block ends."""
    return close_stream(database, "block", BATCH)


def abandons(database: Database) -> list[ReadyJob]:
    """A streaming block is given up."""
    return abandon_stream(database, "block", BATCH, "its producer died.")


# ---------------------------------------------------------------- what must hold


def faults(scene: Scene, course: Course) -> list[str]:
    """What went wrong, after a sweep and after everybody has done what was left to do."""
    database = scene.database
    found = [repr(error) for error in course.errors if error is not None and not isinstance(error, REFUSALS)]
    armed = [job.id for result in course.results for job in result or () if job.announces_id is not None]
    found += _of_this_moment(database)
    late, ready = recover_batches(database)
    found += [f"left to the sweep: {late}"] if late else []
    armed += [job.id for job in ready if job.announces_id is not None]
    for _ in range(6):
        armed += [job.id for job in _finish(database) if job.announces_id is not None]
    found += _of_this_moment(database)
    found += [f"not finished: {batch.id}" for batch in _rows(database, "batches") if batch.settled_at is None]
    due = sorted(_armed(_rows(database, "jobs")) - scene.armed)
    return found + ([f"armed {sorted(armed)}, due {due}"] if sorted(armed) != due else [])


def _armed(jobs: Iterable[Any]) -> set[str]:
    unarmed = (JobState.WAITING, JobState.SKIPPED)
    return {job.id for job in jobs if job.announces_id and job.state not in unarmed}


def _of_this_moment(database: Database) -> list[str]:
    jobs, found = _rows(database, "jobs"), []
    for batch in _rows(database, "batches"):
        left = [job.id for job in jobs if job.batch_id == batch.id and job.state not in TERMINAL]
        if batch.settled_at is not None and left:
            found.append(f"{batch.id} is finished falsely: {left} are left")
        mine = [job for job in jobs if job.announces_id == batch.id and job.round == batch.round]
        allowed = {BatchState.COMPLETE: {Event.COMPLETE}, BatchState.FAILED: {Event.FAILURE}}
        due = allowed.get(BatchState(batch.state), set()) | ({Event.SETTLED} if batch.settled_at else set())
        armed = _armed(mine)
        wrong = [f"{job.event} callback {job.id}" for job in mine if (job.id in armed) != (job.event in due)]
        if wrong:
            found.append(f"{batch.id} is {batch.state}, and armed falsely, or not: {wrong}")
    return found


def _finish(database: Database) -> list[ReadyJob]:
    """Let workers run what is left, and producers end; what became ready by it."""
    ready: list[ReadyJob] = []
    for job in _rows(database, "jobs"):
        if job.state in (*TERMINAL, JobState.WAITING) or job.kind == Kind.BATCH:
            continue
        if job.kind == Kind.BLOCK:
            ready += close_stream(database, job.id, job.batch_id)
        else:
            ready += _run(database, job)
    return ready


def _run(database: Database, job: Any) -> list[ReadyJob]:
    token = job.token
    if job.state != JobState.RUNNING:
        token = "last"
        claim(database, job.id, job.delivery, token)
    ending = Ending(job.id, JobState.COMPLETE, delivery=job.delivery, token=token, blocks=bool(job.blocks))
    return settle(database, ending, batch_id=job.batch_id, announces_id=job.announces_id)


def _rows(database: Database, noun: str) -> list[Any]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(getattr(database.tables, noun))).all())
