"""Each guard that two at once need is needed: without it a schedule goes wrong that goes right with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from locks import on_servers
from proofs import actors
from proofs.actors import BATCH, Scene, faults
from proofs.schedules import schedules_with_switches
from proofs.stepping import Act, Course, Schedule, Stage
from scenes import batch_row, state_of

from celery_flows.states import BatchState, JobState
from celery_flows.store import batches, evidence, sessions
from celery_flows.store.database import Database
from celery_flows.transitions import enroll
from celery_flows.transitions.cancel import cancel

on_postgresql = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

Remove = Callable[[pytest.MonkeyPatch], None]
#: A scene, and those who act at once in it.
Pair = tuple[Callable[[Database], None], list[Act]]


def no_check_under_the_lock(patch: pytest.MonkeyPatch) -> None:
    """Believe the probe, which was made before the lock was held."""
    hear = evidence.hear

    def believe(*asked: Any) -> Any:
        heard = hear(*asked)
        return heard._replace(known=heard.known._replace(unfinished=None))

    patch.setattr(evidence, "hear", believe)


def no_check_by_adders(patch: pytest.MonkeyPatch) -> None:
    """Add without looking at the batch."""
    patch.setattr(enroll, "admit", lambda *_, **__: None)


def _no_lock(patch: pytest.MonkeyPatch, unlocked: str) -> None:
    standing = batches.standing

    def look(connection: Any, tables: Any, batch_id: str, lock: str | None = None) -> Any:
        return standing(connection, tables, batch_id, None if lock == unlocked else lock)

    patch.setattr(batches, "standing", look)


def no_shared_lock(patch: pytest.MonkeyPatch) -> None:
    """Who adds a job or a callback, or lets a job run again, looks at the batch without holding it."""
    _no_lock(patch, "shared")


def no_exclusive_lock(patch: pytest.MonkeyPatch) -> None:
    """Who decides about a batch, cancels or retries it, looks at it without holding it."""
    _no_lock(patch, "exclusive")
    patch.setattr(evidence, "standing_exclusive", batches._STANDING[None])


def repeatable_read(patch: pytest.MonkeyPatch) -> None:
    """Leave the isolation to a server whose default is stricter."""
    patch.setitem(sessions.BEGIN, "postgresql", "BEGIN ISOLATION LEVEL REPEATABLE READ")


def goes_wrong(
    database: Database,
    pair: Pair,
    is_wrong: Callable[[Scene, Course], Any] = lambda scene, course: faults(scene, course),
) -> bool:
    """Whether something is left wrong where one of the two is put off once, at any of its statements."""
    make, acts = pair
    scene, stage = Scene.of(database, make), Stage(database, len(acts), is_fine=True)

    def play(schedule: Schedule) -> Course:
        scene.begin()
        return stage.plays(acts, schedule)

    try:
        return any(is_wrong(scene, course) for course in schedules_with_switches(play, 2, 1))
    finally:
        stage.close()


ADDING: Final[Pair] = (actors.undecided, [actors.adds, actors.advances])
LISTENING: Final[Pair] = (actors.undecided, [actors.listens("complete"), actors.advances])


@on_servers
@pytest.mark.parametrize("pair", [ADDING, LISTENING], ids=["job", "callback"])
def test_adding_beside_the_end(database: Database, pair: Pair) -> None:
    """A job or a callback that is added while the batch ends is seen by who ends it, or refused."""
    assert not goes_wrong(database, pair)


@on_servers
@pytest.mark.parametrize(
    "remove", [no_check_under_the_lock, no_check_by_adders, no_shared_lock, no_exclusive_lock]
)
def test_adding_goes_wrong_unguarded(database: Database, monkeypatch: pytest.MonkeyPatch, remove: Remove) -> None:
    """It is by these four together."""
    remove(monkeypatch)
    assert goes_wrong(database, ADDING)


@on_servers
def test_listening_goes_wrong_without_its_lock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback would wait for an event that has been."""
    no_shared_lock(monkeypatch)
    assert goes_wrong(database, LISTENING)


@on_postgresql
def test_adding_goes_wrong_above_read_committed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, who waited for the batch's lock still sees what was there before, and ends the batch falsely.

    InnoDB takes its picture at the first plain read, which in ours comes after the lock; see test_races.py
    for statements in another order.
    """
    repeatable_read(monkeypatch)
    assert goes_wrong(database, ADDING)


# ---------------------------------------------------------------- cancelling


def ends_and_reopens(database: Database) -> list[Any]:
    """The last job of a batch that has failed ends, and a user retries the batch."""
    actors.ends("one")(database)
    return actors.reopens()(database)


def only_cancels(database: Database) -> list[Any]:
    """A user cancels."""
    return cancel(database, BATCH).ready


#: A batch that has failed and waits for its last job is cancelled, while that job ends and somebody retries it.
CANCELLING: Final[Pair] = (actors.one_is_left_the_other_failed, [only_cancels, ends_and_reopens])


def cancels_falsely(scene: Scene, course: Course) -> bool:
    """Whether jobs of the new round were ended, and the batch is not cancelled."""
    batch = batch_row(scene.database, BATCH)
    ended = [job for job in ("one", "two") if state_of(scene.database, job) is JobState.CANCELLED]
    return bool(ended) and batch.round == 2 and batch.state != BatchState.CANCELLED


@on_servers
def test_a_cancel_belongs_to_a_round(database: Database) -> None:
    """It finds the batch in the one round, or in the other; never does it end a round's jobs without its fate."""
    assert not goes_wrong(database, CANCELLING, cancels_falsely)


@on_servers
def test_a_cancel_goes_wrong_without_its_lock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see the old round's fate, and end the new round's jobs."""
    no_exclusive_lock(monkeypatch)
    assert goes_wrong(database, CANCELLING, cancels_falsely)


#: A lost job is to run again, while its batch is cancelled.
LOSING: Final[Pair] = (actors.one_is_left, [actors.loses("one", "retry"), only_cancels])


def runs_on(scene: Scene, course: Course) -> bool:
    """Whether a job is left to be run in a batch that is cancelled."""
    is_cancelled = batch_row(scene.database, BATCH).state == BatchState.CANCELLED
    return is_cancelled and state_of(scene.database, "one") is JobState.READY


@on_servers
def test_a_lost_job_does_not_run_again_in_a_cancelled_batch(database: Database) -> None:
    """Either the cancel finds it unstarted, or it finds the batch cancelled."""
    assert not goes_wrong(database, LOSING, runs_on)


@on_postgresql
def test_a_lost_job_runs_again_without_its_lock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither would have seen the other; InnoDB's cancel waits for the row of the job in any case."""
    no_shared_lock(monkeypatch)
    assert goes_wrong(database, LOSING, runs_on)
