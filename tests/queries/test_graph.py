"""A batch as a graph: its rows and edges at one moment, on each database."""

from __future__ import annotations

from graphs import BATCH, inner, plan_of, plans, runs, start
from scenes import make_batch

from celery_flows.queries.graph import graph
from celery_flows.states import Condition, JobState
from celery_flows.store.database import Database


def test_rows_and_edges(database: Database) -> None:
    """Jobs, joins and flows with their states, and what each waits for."""
    flow = plan_of("a>join b>join join>c join>part c!d a~d", flows={"part": inner()})
    start(database, flow)
    runs(database, "a")
    runs(database, "b", JobState.FAILED)
    found = graph(database, BATCH)
    assert {one: str(state) for one, state in found.states.items()} == {
        "a": "complete",
        "b": "failed",
        "join": "skipped",
        "c": "skipped",
        "part": "skipped",
        "d": "skipped",
    }
    edges = {(edge.job_id, edge.dependent_id, edge.condition) for edge in found.plan.edges}
    assert ("c", "d", Condition.FAILURE) in edges
    assert ("a", "d", Condition.SETTLED) in edges
    assert len(edges) == 6
    node = found.plan.nodes["part"]
    assert node.call is not None
    assert (node.task, node.call.kind) == ("shop.Inner", "workflow")


def test_a_flow_inside_runs_once_it_is_planned(database: Database) -> None:
    """Its row is in no queue: it waits, runs and ends."""
    start(database, plan_of("a>part", flows={"part": inner()}))
    assert graph(database, BATCH).states["part"] is JobState.WAITING
    runs(database, "a")
    plans(database, "part", "x")
    assert graph(database, BATCH).states["part"] is JobState.RUNNING
    assert str(graph(database, BATCH)).splitlines()[2] == "  part: shop.Inner (workflow) [running]"
    runs(database, "x")
    assert graph(database, BATCH).states["part"] is JobState.COMPLETE


def test_a_batch_without_jobs(database: Database) -> None:
    """It is only a title."""
    batch = make_batch(database, description="Nothing\x1b yet")
    assert str(graph(database, batch)) == f"batch {batch[:18]} Nothing\ufffd yet: pending"
