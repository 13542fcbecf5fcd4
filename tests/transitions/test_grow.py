"""Grow: jobs that a running job adds are waited for by what waits for that job."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pymysql
import pytest
from graphs import (
    BATCH,
    edges_of,
    ends,
    enroll_plan,
    grows,
    inner,
    plan_of,
    plans,
    runs,
    start,
    states,
    takes,
    work_off,
)
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from scenes import fate_of, ids, make_batch, row

from celery_flows.errors import BatchCancelled, JobTaken
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store.database import Database
from celery_flows.store.jobs import touch_claimed
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.create import adopt
from celery_flows.transitions.enroll import Grower
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.release import settle_waiting

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED
RETRY, FAIL = LossPolicy("retry", 3), LossPolicy("fail", 3)


@pytest.mark.parametrize("first", ["a", "x"])
def test_what_waited_waits_for_all(database: Database, first: str) -> None:
    """For the job, and for each that it added, in whichever order they end."""
    start(database, "a>b")
    takes(database, "a")
    grows(database, "a", "x y")
    takes(database, "x")
    second = "x" if first == "a" else "a"
    assert [ends(database, one) for one in (first, second)] == [[], []]
    assert states(database, "b") == "waiting"
    assert runs(database, "y") == ["b"]


def test_several_that_waited_are_reached_over_a_join(database: Database) -> None:
    """So 100 jobs added before 100 that wait are 200 edges, not 10,000."""
    start(database, "a>b a>c a~d")
    before = len(edges_of(database))
    takes(database, "a")
    grows(database, "a", "x y z")
    # A join for each condition: three edges to each, and one on to each that waits.
    assert len(edges_of(database)) == before + 2 * 3 + 3
    assert ends(database, "a") == []
    assert [runs(database, one) for one in "xyz"] == [[], [], ["b", "c", "d"]]


def test_they_wait_for_it_as_they_waited_for_the_other(database: Database) -> None:
    """An added job that fails skips what waits for completion, and lets go on what waits for any end."""
    start(database, "a>b a~c", tolerate="5")
    takes(database, "a")
    grows(database, "a", "x")
    ends(database, "a")
    runs(database, "x", FAILED)
    assert states(database, "b", "c") == "skipped ready"


def test_the_last_of_an_added_chain_is_waited_for(database: Database) -> None:
    """What is planned among the added keeps its order, and what waited comes behind it."""
    start(database, "a>b")
    takes(database, "a")
    grows(database, "a", "x>y")
    ends(database, "a")
    assert work_off(database) == ["x", "y", "b"]


def test_an_added_job_adds_others(database: Database) -> None:
    """They too are waited for."""
    start(database, "a>b")
    takes(database, "a")
    grows(database, "a", "x")
    ends(database, "a")
    takes(database, "x")
    grows(database, "x", "y")
    assert (ends(database, "x"), runs(database, "y")) == ([], ["b"])


def test_an_added_flow_is_waited_for(database: Database) -> None:
    """A child batch, planned later or there at once, is waited for until it is over."""
    start(database, "a>b")
    takes(database, "a")
    plan = plan_of("sub", flows={"sub": inner()})
    grows(database, "a", plan)
    child = make_batch(database, id="child")
    database.transact(adopt, database.tables, BATCH, child, Grower("a", "token-a", BATCH))
    assert [edge for edge in edges_of(database) if edge[1] == "b"] == [
        (one, "b", True) for one in ("a", "child", "sub")
    ]
    ends(database, "a")
    assert plans(database, "sub") == []
    assert states(database, "b") == "waiting"


def test_nobody_waits(database: Database) -> None:
    """A job for which nothing waits adds jobs without an edge, of its batch or of others."""
    start(database, "a b")
    other = start(database, "other", batch="elsewhere")
    takes(database, "a")
    grows(database, "a", "x")
    database.transact(
        enroll_plan, database.tables, plan_of("y"), other, starts=False, grower=Grower("a", "token-a", BATCH)
    )
    assert edges_of(database) == []


def test_jobs_of_other_batches_are_not_waited_for(database: Database) -> None:
    """What a job adds to a batch that is not its own concerns nobody in its own."""
    start(database, "a>b")
    other = start(database, "other", batch="elsewhere")
    takes(database, "a")
    database.transact(
        enroll_plan, database.tables, plan_of("y"), other, starts=False, grower=Grower("a", "token-a", BATCH)
    )
    assert [job.id for job in ends(database, "a")] == ["b"]


def test_the_share_that_may_fail_knows_no_joins(database: Database) -> None:
    """Of what grew, jobs are among all that are known, and joins are not."""
    start(database, "a>b a>c", tolerate="50%")
    takes(database, "a")
    grows(database, "a", "x")
    ends(database, "a")
    assert [one for one in edges_of(database) if one[0] == "x"] != []
    work_off(database, {"b": FAILED, "c": FAILED})
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


# ---------------------------------------------------------------- a job that is given up


def test_a_job_that_was_given_up_adds_nothing_to_wait_for(database: Database) -> None:
    """What waited may have moved already: it is told, and nothing is written."""
    start(database, "a>b")
    takes(database, "a")
    lose(database, "a", "token-a", FAIL, "it was stopped")
    with pytest.raises(JobTaken):
        grows(database, "a", "x")
    assert edges_of(database) == [("a", "b", False)]
    start(database, "c>d", batch="again")
    takes(database, "c")
    lose(database, "c", "token-c", RETRY, "it was stopped")
    with pytest.raises(JobTaken):
        grows(database, "c", "x", "again")


def test_a_job_that_runs_again_adds_again(database: Database) -> None:
    """As often as it runs: what it had added before stays, and is waited for as well."""
    start(database, "a>b")
    takes(database, "a")
    grows(database, "a", "x")
    lose(database, "a", "token-a", RETRY, "it died")
    takes(database, "a")
    grows(database, "a", "y")
    ends(database, "a")
    assert [runs(database, one) for one in "yx"] == [[], ["b"]]


@on_servers
def test_who_gives_it_up_waits_for_who_adds(database: Database) -> None:
    """Then what was added is part of the flow, and what waits waits for it: nobody is skipped too early."""
    start(database, "a~b")
    takes(database, "a")
    with opened(database) as connection:
        grower = Grower("a", "token-a", BATCH)
        enroll_plan(connection, database.tables, plan_of("x"), BATCH, starts=False, grower=grower)
        assert touch_claimed(connection, database.tables, "a", "token-a")
        lost = beside(lose, database, "a", "token-a", FAIL, "it was stopped")
        wait_for_waiter(database)
    outcome(lost)
    assert states(database, "a", "b", "x") == "failed waiting ready"
    assert runs(database, "x") == ["b"]


@pytest.mark.parametrize("database_kind", ["mariadb"], indirect=True)
def test_whatever_a_connection_counts(database: Database) -> None:
    """One that the project made itself counts the rows that change by an UPDATE, rather than those found."""
    url = database.url
    given = {"host": url.host, "port": url.port, "user": url.username, "password": url.password or ""}
    theirs = Database(url, engine_options={"creator": partial(pymysql.connect, database=url.database, **given)})
    with closing(theirs):
        start(theirs, "a>b")
        takes(theirs, "a")
        grows(theirs, "a", "x")
        assert [runs(theirs, "x"), ids(ends(theirs, "a"))] == [[], ["b"]]


# ---------------------------------------------------------------- cancelled flows


def test_a_cancelled_flow_takes_no_more(database: Database) -> None:
    """What waits is cancelled, with the flows inside whose turn had not come; what runs adds none."""
    start(database, "a>b b>sub a!sub2 sub>join sub2>join", flows={"sub": inner(["settled"]), "sub2": inner()})
    takes(database, "a")
    assert cancel(database, BATCH) == ([], ["a"])
    assert states(database, "b", "sub", "sub2", "join") == "cancelled cancelled cancelled cancelled"
    for sub in ("sub", "sub2"):
        assert fate_of(database, sub) == (BatchState.CANCELLED, True)
    with pytest.raises(BatchCancelled):
        grows(database, "a", "x")
    assert ends(database, "a") == []
    assert fate_of(database, BATCH) == (BatchState.CANCELLED, True)


def test_a_cancelled_flow_cancels_the_flow_that_runs_in_it(database: Database) -> None:
    """What runs in it may finish; then both are over, and its callback on the end has been armed."""
    start(database, "sub>b", flows={"sub": inner(["settled"])})
    plans(database, "sub", "x>y z")
    takes(database, "x")
    assert cancel(database, BATCH).running == ["x"]
    assert states(database, "b", "y", "z") == "cancelled cancelled cancelled"
    [callback] = ends(database, "x")
    assert callback.kind == Kind.CALLBACK
    runs(database, callback.id)
    assert (states(database, "sub"), row(database, "b").wrong) == ("cancelled", 0)
    assert fate_of(database, BATCH) == (BatchState.CANCELLED, True)


@on_servers
def test_a_flow_that_begins_while_its_parent_is_cancelled(database: Database) -> None:
    """Who cancels waits for who begins it, and finds it begun: it is cancelled as one that runs."""
    start(database, "a>sub", flows={"sub": inner(["settled"])})
    with opened(database) as connection:
        connection.exec_driver_sql("UPDATE flows_edges SET is_open = 0 WHERE job_id = 'a'")
        connection.exec_driver_sql("UPDATE flows_jobs SET state = 'complete' WHERE id = 'a'")
        wave = settle_waiting(connection, database.tables, ["sub"])
        assert [job.kind for job in wave.ready] == ["plan"]
        done = beside(cancel, database, BATCH)
        wait_for_waiter(database)
    [callback] = outcome(done).ready
    assert (callback.announces_id, states(database, "sub")) == ("sub", "running")
    runs(database, callback.id)
    assert fate_of(database, BATCH) == (BatchState.CANCELLED, True)
