"""Untracked: tasks outside any batch, where celery-flows is installed and where it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from celery.app.trace import build_tracer

from benchmarks.case import Case, Figures, Of, Question, at_most
from benchmarks.cases.drain import untracked
from benchmarks.services import World
from celery_flows.ids import new_id


def with_flows(world: World, n: int) -> Figures:
    """Our app, and nothing of it is used; beside the time, what one task costs in statements and more calls."""
    _check_statements_are_seen(world)
    calls, statements = _costs(world.ours)
    added = {"statements per task": statements, "calls added per task": calls - _costs(world.plain)[0]}
    return {**added, **untracked(world, world.ours, n, "nothing")}


def without(world: World, n: int) -> Figures:
    """Celery alone."""
    return untracked(world, world.plain, n, "nothing")


def _costs(app: Any) -> tuple[int, int]:
    """Calls and statements of one task, as a worker's process runs it."""
    task = app.tasks["bench.nothing"]
    trace = build_tracer(task.name, task, app=app)

    def run() -> None:
        task_id = new_id()
        headers = {"lang": "py", "task": task.name, "id": task_id, "retries": 0, "ignore_result": True}
        trace(task_id, (), {}, {**headers, "delivery_info": {}, "hostname": "here", "headers": {}})

    # What is done once only is done the first time.
    run()
    return _counted(run)


def _counted(act: Callable[[], object]) -> tuple[int, int]:
    """Python calls, and calls of what drivers, in Python or in C, all name `execute`."""
    calls = statements = 0

    def count(frame: FrameType, what: str, argument: Any) -> None:
        nonlocal calls, statements
        calls += what == "call"
        statements += what == "call" and frame.f_code.co_name == "execute"
        statements += what == "c_call" and argument.__name__ == "execute"

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls, statements


def _check_statements_are_seen(world: World) -> None:
    def look() -> None:
        with world.database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")

    assert _counted(look)[1] > 0, "statements are not seen"


CASE = Case(
    name="untracked",
    about="no-op tasks outside any batch, with celery-flows installed and without",
    n=20_000,
    sides={"ours": with_flows, "without": without},
    questions=[
        Question(Of("ours", "statements per task"), target=at_most(0)),
        Question(Of("ours", "calls added per task"), target=at_most(5)),
        Question(Of("ours", "s"), Of("without", "s")),
        Question(Of("ours", "CPU s of the worker"), Of("without", "CPU s of the worker")),
    ],
)
