"""Relay: on PostgreSQL a job's end, and the release of what waits for it alone, are one statement."""

from __future__ import annotations

import sqlalchemy as sa
from graphs import BATCH, edges_of, ends, inner, runs, start, states, takes, work_off
from locks import beside, naive, on_postgresql, outcome
from scenes import fate_of, ids, row

from celery_flows.codec import decode
from celery_flows.plan import Node, Plan
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.recover import take_overdue
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.settle import complete_within, follow, settle

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED
ENDING = Ending("a", COMPLETE, delivery=1, token="token-a", blocks=True)


@on_postgresql
def test_who_holds_what_waits_is_not_waited_for(database: Database) -> None:
    """He may wait for the job that ends, and one of them would be a deadlock's victim: he is let be.

    That would cost a job with a transaction of its own another run, and one of its losses.
    """
    start(database, "a>b a>c")
    takes(database, "a")
    with naive(database) as other, database.engine.begin() as connection:
        other.execute(sa.text("SELECT 1 FROM flows_jobs WHERE id = 'b' FOR UPDATE"))
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        relayed = complete_within(connection, database.tables, ENDING)
    assert relayed is not None
    assert (ids(relayed.ready), relayed.is_left) == (["c"], True)
    assert ids(follow(database, "a", BATCH, None, relayed=relayed)) == ["c", "b"]
    assert row(database, "a").releasing_since is None


@on_postgresql
def test_a_flow_inside_is_retried_at_this_moment(database: Database) -> None:
    """It leaves alone the edges of what runs: none of them is opened once more when that has ended."""
    start(database, "a>b sub", flows={"sub": inner()}, tolerate="9")
    takes(database, "a")
    work_off(database, {"x": FAILED}, {"sub": "x"})
    with database.engine.begin() as connection:
        relayed = complete_within(connection, database.tables, ENDING)
        assert outcome(beside(reopen, database, "sub", Mode.FAILED)) == ["sub"]
    follow(database, "a", BATCH, None, relayed=relayed)
    assert edges_of(database) == [("a", "b", False)]
    work_off(database, {"b": FAILED})
    reopen(database, BATCH, Mode.FAILED)
    assert work_off(database) == ["b"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


@on_postgresql
def test_it_is_said_twice(database: Database) -> None:
    """The answer to the first was lost with the connection: what it let go is published by the sweep, once."""
    start(database, "a>b")
    takes(database, "a")
    with database.engine.begin() as connection:
        assert complete_within(connection, database.tables, ENDING) is not None
    assert settle(database, ENDING, batch_id=BATCH) == []
    assert states(database, "a", "b") == "complete ready"
    assert [(job.id, job.delivery) for job in take_overdue(database, 0, 10)] == [("b", 2)]
    assert take_overdue(database, 60, 10) == []
    assert runs(database, "b") == []
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


class Backwards:
    """A codec."""

    def encode(self, text: str) -> str:
        return text[::-1]

    decode = encode


def test_sealed_and_elsewhere(postgres_url: str) -> None:
    """What it lets go is read in clear, and what is kept of the job sealed once, in tables of any name."""
    database = Database(postgres_url, prefix="Odd ", schema="Odd Place", codec=Backwards())
    schema.upgrade(database)
    plan = Plan()
    for name in "ab":
        plan.add(Node(name, Kind.TASK, "shop.score", '["to", {"b": 1}]'))
    plan.connect("a", "b")
    start(database, plan)
    takes(database, "a")
    [job] = ends(database, "a", result='["x", 1]')
    assert (decode(job.args), job.delivery) == (["to", {"b": 1}], 1)
    assert row(database, "a").result == '["x", 1]'
    with database.reading() as connection:
        kept = connection.scalar(sa.text("""SELECT result FROM "Odd Place"."Odd jobs" WHERE id = 'a'"""))
    assert kept == "celery-flows-sealed:" + '["x", 1]'[::-1]
    schema.downgrade(database, "base")
    database.close()
