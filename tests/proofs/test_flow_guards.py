"""Each guard of a flow is needed: without it a schedule strands a job, or runs one too early or twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from graphs import edges_of, runs, start, states
from locks import on_postgresql, on_servers
from proofs import flowing
from proofs.flowing import PAIRS
from proofs.test_guards import Remove

from celery_flows.states import JobState
from celery_flows.store import edges, jobs, nested, relay
from celery_flows.store.database import Connection, Database
from celery_flows.store.edges import Verdict
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions import release as release_module
from celery_flows.transitions import settle as settle_module
from celery_flows.transitions.claim import claim
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.release import Released, settle_waiting
from celery_flows.transitions.settle import settle


def no_second_look(patch: pytest.MonkeyPatch) -> None:
    """Judge what was held without asking again whether it waits for something."""

    def judge(connection: Connection, tables: Tables, held: Any) -> list[Verdict]:
        return [Verdict(job, takes, True, False) for job, takes in held]

    patch.setattr(edges, "judge", judge)


def no_lock_on_what_waits(patch: pytest.MonkeyPatch) -> None:
    """Let go what was found to be free without holding it."""

    def look(connection: Connection, tables: Tables, ids: Sequence[str]) -> list[tuple[ReadyJob, str | None]]:
        found = connection.execute(
            sa.select(*ReadyJob.columns(tables), tables.jobs.c.takes).where(tables.jobs.c.id.in_(ids))
        ).all()
        waiting = [row for row in found if row.state == JobState.WAITING]
        return [(ReadyJob(*row[:-1]), row[-1]) for row in waiting]

    patch.setattr(edges, "hold_waiting", look)


def no_commit_before_the_look(patch: pytest.MonkeyPatch) -> None:
    """Close the edges, and look who is free, in one transaction."""

    def work(connection: Connection, tables: Tables, job_id: str) -> list[ReadyJob]:
        connection.execute(edges.close(tables, connection.dialect.name), {"at_id": job_id})
        due = edges.due(tables, connection.dialect.name)
        found = list(connection.scalars(due, {"at_id": job_id, "after": "", "most": 500}))
        wave = settle_waiting(connection, tables, found)
        connection.execute(edges.forget_release(tables, connection.dialect.name), {"at_id": job_id})
        return wave.ready

    def release(database: Database, job_id: str) -> Released:
        return Released(database.transact(work, database.tables, job_id), went_wrong=False)

    for module in (release_module, settle_module):
        patch.setattr(module, "release", release)


def no_lock_on_what_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    """See which of them have ended before they are held."""
    whole = edges.let_block

    def let_block(connection: Connection, tables: Tables, ids: Sequence[str]) -> list[str]:
        ended = sa.select(tables.jobs.c.id).where(tables.jobs.c.id.in_(ids), tables.jobs.c.outcome.is_not(None))
        found = list(connection.scalars(ended))
        whole(connection, tables, ids)
        return found

    patch.setattr(edges, "let_block", let_block)


def no_look_at_the_grower(patch: pytest.MonkeyPatch) -> None:
    """Add jobs without seeing whether the job that adds them was given up."""
    patch.setattr(jobs, "touch_claimed", lambda *_: True)


def no_lock_on_what_has_not_begun(patch: pytest.MonkeyPatch) -> None:
    """Cancel flows inside that had not begun a moment ago."""

    def unbegun(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
        found, batches = tables.jobs, tables.batches
        statement = sa.select(found.c.id).join(batches, batches.c.id == found.c.id)
        mine = (
            (found.c.batch_id == batch_id) & (found.c.state == JobState.WAITING) & batches.c.started_at.is_(None)
        )
        return list(connection.scalars(statement.where(mine)))

    patch.setattr(nested, "unbegun", unbegun)


REMOVED = {
    "fail-add": [no_second_look],
    "end-add": [no_lock_on_what_is_waited_for],
    "sweep-release": [no_lock_on_what_waits],
    "end-end-untold": [no_commit_before_the_look],
    "grow-lose": [no_look_at_the_grower],
    "end-cancel": [no_lock_on_what_has_not_begun],
}


@on_servers
@pytest.mark.parametrize(
    ("name", "remove"),
    [pytest.param(name, one, id=one.__name__) for name, every in REMOVED.items() for one in every],
)
def test_it_goes_wrong_unguarded(
    database: Database, monkeypatch: pytest.MonkeyPatch, name: str, remove: Remove
) -> None:
    """The pairs in flowing.py go right with all of these; see test_flow_interleavings.py."""
    remove(monkeypatch)
    make, *acts = PAIRS[name]
    assert flowing.goes_wrong(database, make, acts)


def rows_are_taken_as_they_come(patch: pytest.MonkeyPatch) -> None:
    """Let go what waited for a job alone when the statement began, whatever was written since."""
    patch.setattr(relay, "_is_as_seen", lambda *_: sa.true())


def who_adds_writes_nothing(patch: pytest.MonkeyPatch) -> None:
    """Hold the row of the job that adds others, and leave it as it is."""

    def hold(connection: Connection, tables: Tables, job_id: str, token: str) -> bool:
        mine = (tables.jobs.c.id == job_id) & (tables.jobs.c.token == token)
        running = mine & (tables.jobs.c.state == JobState.RUNNING)
        return connection.scalar(sa.select(tables.jobs.c.id).where(running).with_for_update()) is not None

    patch.setattr(jobs, "touch_claimed", hold)


@on_postgresql
@pytest.mark.parametrize("remove", [rows_are_taken_as_they_come, who_adds_writes_nothing])
def test_what_waits_for_more_is_let_go(
    database: Database, monkeypatch: pytest.MonkeyPatch, remove: Remove
) -> None:
    """So it is without the guards of the one statement by which a job ends and others begin."""
    remove(monkeypatch)
    make, *acts = PAIRS["end-grow"]
    assert flowing.goes_wrong(database, make, acts)


@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "unguarded"])
def test_edges_close_for_what_has_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    """A worker from which a job was taken does not close its edges, while another runs it."""

    def close(tables: Tables, dialect: str) -> sa.Update:
        mine = tables.edges.c.job_id == sa.bindparam("at_id")
        return sa.update(tables.edges).where(mine).values(is_open=0)

    if not is_guarded:
        monkeypatch.setattr(edges, "close", close)
    start(database, "a>b")
    claim(database, "a", 1, "first")
    lose(database, "a", "first", LossPolicy("retry", 3), "it was stopped")
    claim(database, "a", 2, "second")
    settle(database, jobs.Ending("a", JobState.COMPLETE, delivery=1, token="first", blocks=True), batch_id="flow")
    assert states(database, "a", "b") == "running waiting"
    assert edges_of(database) == [("a", "b", is_guarded)]


def test_what_was_closed_by_mistake_is_not_judged(database: Database) -> None:
    """An edge from a job that runs holds what waits, whatever is written there."""
    start(database, "a>b c>b")
    with database.engine.begin() as connection:
        connection.execute(
            sa.update(database.tables.edges).where(database.tables.edges.c.job_id == "a").values(is_open=0)
        )
    assert runs(database, "c") == []
    assert states(database, "b") == "waiting"
    assert runs(database, "a") == ["b"]
