"""Tasks that are nobody's job cost nothing, and Celery works on them as ever."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from acceptance.running import Project, wait_for
from celery import Celery, chain, chord, group
from celery.app.trace import build_tracer
from kombu.utils.uuid import uuid

from celery_flows import Flows


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Project], redis_url: str) -> Iterator[Project]:
    """A worker with one process that says what it sends to the database, and which signals it sends."""
    project = make_project("redis", "postgresql", result_backend=redis_url)
    with project.worker("prefork", 1, patches="trace_wire note_signals"):
        yield project


def test_an_untracked_task_sends_no_statement(project: Project) -> None:
    """Nothing goes to the database at all from the process that runs the tasks; of a job's, all is seen."""
    child = project.pid.delay().get(timeout=30)
    for number in range(20):
        project.add.delay(number, 1).get(timeout=30)
    assert project.wire(child) == ""
    project.run("add", 1, 1)
    before = project.wire(child)
    project.run("add", 1, 1)
    # A connection that there was before is seen in use as well.
    assert "\tExecute\t" in project.wire(child)[len(before) :]


def _python_calls(act: Callable[[], object]) -> int:
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


def _calls_of_one_task(app: Celery) -> int:
    @app.task(name="calls.nothing", shared=False, ignore_result=True)
    def nothing() -> None:
        return None

    app.finalize()
    task = app.tasks["calls.nothing"]
    trace = build_tracer(task.name, task, app=app)

    def request() -> dict[str, Any]:
        headers = {"lang": "py", "task": task.name, "id": uuid(), "retries": 0}
        return {**headers, "delivery_info": {}, "hostname": "here", "ignore_result": True, "headers": {}}

    trace(uuid(), (), {}, request())
    return _python_calls(lambda: trace(uuid(), (), {}, request()))


def test_an_untracked_task_costs_a_handful_of_calls() -> None:
    """Celery makes dozens for a task; ours are at most five more."""
    plain, with_flows = Celery("plain", set_as_current=False), Celery("flows", set_as_current=False)
    Flows(with_flows, database_url="sqlite://")
    assert 0 < _calls_of_one_task(with_flows) - _calls_of_one_task(plain) <= 5


# Celery 5.6 speaks to newer Redis clients in ways that they mean to drop.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
def test_celerys_canvas_and_results_work_on_untracked_tasks(project: Project) -> None:
    """Chains, groups, chords, links and retries are Celery's own, with its own result backend."""
    add, total = project.add, project.total
    assert chain(add.s(1, 1), add.s(1), add.s(1)).delay().get(timeout=30) == 4
    assert group([add.s(1, 1), add.s(2, 2)], app=project.app).delay().get(timeout=30) == [2, 4]
    assert chord([add.s(1, 1), add.s(2, 2)], total.s(), app=project.app).delay().get(timeout=30) == 6
    assert project.retried.delay(2).get(timeout=30) == 2
    with pytest.raises(ValueError, match="broken on purpose"):
        project.broken.delay().get(timeout=30)


@pytest.mark.parametrize(
    ("task", "args", "names"),
    [
        ("add", (1, 1), ["task_postrun", "task_prerun", "task_success"]),
        ("broken", (), ["task_failure", "task_postrun", "task_prerun"]),
        (
            "retried",
            (1,),
            ["task_postrun", "task_postrun", "task_prerun", "task_prerun", "task_retry", "task_success"],
        ),
    ],
)
def test_signals_are_the_same_for_jobs_and_others(
    project: Project, task: str, args: tuple[Any, ...], names: list[str]
) -> None:
    """Each of Celery's signals is sent once, tracked or not."""

    def signals_of(task_id: str) -> list[str]:
        return sorted(name for (name,) in project.seen("signal", task_id))

    untracked = getattr(project, task).delay(*args)
    wait_for(lambda: signals_of(untracked.id) == names, lambda: signals_of(untracked.id))
    tracked = project.run(task, *args)
    wait_for(lambda: signals_of(tracked.id) == names, lambda: signals_of(tracked.id))
