"""What is wrong with a flow's class is said at start, by name, rather than found as nothing done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from apps import called, flows_app, rows
from celery import Celery

from celery_flows import Batch, BatchingTask, Orchestration, PlanInvalid, Sequence, Workflow, step


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


class Note(Orchestration):
    """One job."""

    def plan(self) -> None:
        self.run("shop.note", "noted")


def of_orchestration(**body: Any) -> type[Orchestration]:
    """An orchestration of such methods."""
    return type("Wrong", (Orchestration,), body)


def generator(self: Any) -> Iterator[Any]:
    """A method with a yield."""
    yield self.run("shop.note")


async def asynchronous(self: Any) -> None:
    """A coroutine."""
    self.run("shop.note")


async def both(self: Any) -> AsyncIterator[Any]:
    """A coroutine with a yield."""
    yield self.run("shop.note")


NOTHING = "so that calling it does nothing: make it an ordinary method"


@pytest.mark.parametrize("base", [Orchestration, Workflow])
@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (generator, rf"Wrong\.plan is a generator \(it has a yield\), {NOTHING}"),
        (asynchronous, rf"Wrong\.plan is asynchronous \(async def\), {NOTHING}"),
        (both, rf"Wrong\.plan is asynchronous \(async def\), {NOTHING}"),
        (None, r"Wrong has no method plan"),
    ],
)
@pytest.mark.parametrize("how", ["start", "delay", "s", "preview"])
def test_a_plan_that_does_nothing(app: Celery, base: Any, plan: Any, says: str, how: str) -> None:
    """A generator or a coroutine plans nothing when it is called: it is refused, whatever asks for it."""
    flow = type("Wrong", (base,), {} if plan is None else {"plan": plan})
    with pytest.raises(PlanInvalid, match=says):
        getattr(flow, how)()
    assert (rows(app), Batch.list(), called(app)) == ([], [], [])


@pytest.mark.parametrize("base", [Orchestration, Workflow])
def test_a_plan_that_gives_jobs_back(app: Celery, base: Any) -> None:
    """Signatures that are returned are not run; what is returned beside jobs is nobody's concern."""
    note = app.tasks["shop.note"]
    flow = type("Wrong", (base,), {"plan": lambda _: [note.s(1), note.s(2)]})
    with pytest.raises(
        PlanInvalid, match=r"Wrong\.plan gave .*shop\.note.* and planned no job: give each to self"
    ):
        flow.start()
    assert (rows(app), Batch.list()) == ([], [])
    assert type("Right", (base,), {"plan": lambda self: self.run("shop.note")}).start().progress.total == 1
    assert type("Empty", (base,), {"plan": lambda _: None}).start().status == "complete"


def test_a_sequence_without_steps(app: Celery) -> None:
    """As where step() was forgotten; beside steps, attributes may be what they like."""
    note = app.tasks["shop.note"]
    flow = type("Form", (Sequence,), {"create": note})
    for how in (flow.start, flow.delay, flow.s, flow.preview):
        with pytest.raises(PlanInvalid, match=r"Form has no steps: declare each, as name = step\(task\)"):
            how()
    assert Batch.list() == []
    assert type("Form", (Sequence,), {"create": step(note), "helper": note}).start().progress.total == 1


@pytest.mark.parametrize("missing", ["split", "process"])
def test_a_batching_task_without_a_method(app: Celery, missing: str) -> None:
    """Both are needed, and it is said which is not there."""
    there = {"split": generator, "process": lambda _, part: part}
    del there[missing]
    flow = type("Beer", (BatchingTask,), there)
    for how in (flow.start, flow.delay, flow.s, flow.preview):
        with pytest.raises(PlanInvalid, match=f"Beer has no method {missing}"):
            how()
    assert Batch.list() == []


def test_a_flow_that_was_started_is_no_part_of_another(app: Celery) -> None:
    """It would be run twice: once by itself, and once inside."""
    inner = of_orchestration(plan=lambda self: self.run(Note.start()))
    with pytest.raises(PlanInvalid, match=r"is a Note that was started: .* give Note itself or Note\.s\(\.\.\.\)"):
        inner.start()
    assert [type(one) for one in Batch.list()] == [Note]


def test_a_task_that_was_called_is_no_job(app: Celery) -> None:
    """What it gave is not what is to be run."""
    flow = of_orchestration(plan=lambda self: self.run(app.tasks["shop.note"]()))
    with pytest.raises(PlanInvalid, match=r"None is no task, signature or flow\. Was it called\?"):
        flow.start()


@pytest.mark.parametrize("when", ["failure", "settled"])
def test_a_condition_of_nothing(app: Celery, when: str) -> None:
    """What waits for an end says for whose: else it would run at once."""
    flow = type("Graph", (Workflow,), {"plan": lambda self: self.run("shop.note", when=when)})
    with pytest.raises(PlanInvalid, match=rf"when='{when}' needs after=, the job that is to end so"):
        flow.start()
    assert Batch.list() == []


def wrong_handlers() -> list[tuple[Callable[[], Any], str]]:
    """Flow classes with a method that can't be called, and what is said of it."""

    def none(self: Any) -> None: ...

    def two(self: Any, batch: Any, more: Any) -> None: ...

    def plan(self: Any) -> None:
        self.run("shop.note")

    said = r"is called as def {}\(self{}\) would be, but "
    batch, part = (said.format(name, f", {one}") for name, one in (("on_settled", "batch"), ("process", "part")))
    return [
        (lambda: of_orchestration(plan=plan, on_settled=none), rf"Wrong\.on_settled {batch}has too many"),
        (lambda: of_orchestration(plan=plan, on_settled=two), rf"Wrong\.on_settled {batch}is missing .* 'more'"),
        (lambda: of_orchestration(plan=plan, on_settled=asynchronous), r"Wrong\.on_settled is asynchronous"),
        (lambda: type("Form", (Sequence,), {"one": step(two)}), r"Form\.one is called as def one\(self\) would"),
        (lambda: type("Form", (Sequence,), {"one": step(generator)}), r"Form\.one is a generator"),
        (lambda: type("Beer", (BatchingTask,), {"split": plan, "process": none}), rf"Beer\.process {part}has too"),
    ]


@pytest.mark.parametrize(("make", "says"), wrong_handlers())
def test_a_method_that_cannot_be_called(app: Celery, make: Callable[[], Any], says: str) -> None:
    """Handlers, steps and process are tried at start, rather than found when the flow has ended."""
    flow = make()
    for how in (flow.start, flow.delay, flow.s):
        with pytest.raises(PlanInvalid, match=says):
            how()
    assert Batch.list() == []


def test_a_method_may_take_more_by_default(app: Celery) -> None:
    """What can be called is right, however it is written."""

    class Free(Note):
        def on_complete(self, *args: Any) -> None: ...

        def on_failure(self, batch: Batch, more: int = 1) -> None: ...

        @staticmethod
        def on_settled(batch: Batch) -> None: ...

    assert Free.start().progress.total == 1
