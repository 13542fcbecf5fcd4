"""Orchestrations: jobs in series and in parallel, nested at will."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, flows_app, messages, notes_of, rows, run_message, runtime_of, work
from celery import Celery

from celery_flows import Batch, BatchingTask, Orchestration, Sequence, Workflow, current_job, step
from celery_flows.errors import NoFlows


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


def waves(app: Celery) -> list[list[Any]]:
    """Run what is due, then what became due by that, and so on: each time what was noted, in order."""
    found = []
    while due := messages(app):
        before = len(notes_of(app))
        for message in due:
            run_message(app, message)
        found.append(sorted(note[0] for note in notes_of(app)[before:]))
    return [wave for wave in found if wave]


class Note(Orchestration):
    """A flow of one job, for use in others."""

    def plan(self, word: str) -> None:
        self.run("shop.note", word)


class Slices(BatchingTask):
    """Two slices."""

    def split(self) -> Iterator[str]:
        yield from ("slice 1", "slice 2")

    def process(self, part: str) -> None:
        job = current_job()
        assert job is not None
        notes_of(job._claim.runtime.app).append((part,))


class Form(Sequence):
    """One step."""

    write = step("shop.note")


class Import(Orchestration):
    """The orchestration of the documentation."""

    def plan(self, parts: int) -> None:
        self.run("shop.note", "setup")
        with self.in_parallel():
            for part in range(parts):
                self.run("shop.note", f"part {part}")
            with self.in_series():
                self.run("shop.note", "a")
                self.run("shop.note", "b")
        self.run(Note, "nested")
        self.run("shop.note", "finalize")


def test_series_and_blocks_run_in_their_order(app: Celery) -> None:
    """In series one after another, in a block side by side; what follows a block waits for all of it."""
    run = Import.start(2)
    assert waves(app) == [["setup"], ["a", "part 0", "part 1"], ["b"], ["nested"], ["finalize"]]
    assert (run.status, run.kind) == ("complete", "orchestration")


def test_blocks_nest_freely(app: Celery) -> None:
    """A block in a series in a block; blocks directly after blocks meet in a join, which nobody counts."""

    class Nested(Orchestration):
        def plan(self) -> None:
            with self.in_parallel():
                with self.in_series():
                    with self.in_parallel():
                        self.run("shop.note", "a1")
                        self.run("shop.note", "a2")
                    with self.in_parallel():
                        self.run("shop.note", "b1")
                        self.run("shop.note", "b2")
                self.run("shop.note", "c")
            self.run("shop.note", "end")

    run = Nested.start()
    assert waves(app) == [["a1", "a2", "c"], ["b1", "b2"], ["end"]]
    assert (run.progress.total, len(run.completed_jobs)) == (6, 6)
    assert len(rows(app, kind="join")) == 1


def test_what_is_empty_completes(app: Celery) -> None:
    """A plan without jobs, and blocks without jobs, hold nothing back, wherever they stand."""

    class Nothing(Orchestration):
        def plan(self, jobs: int) -> None:
            with self.in_parallel():
                pass
            for number in range(jobs):
                self.run("shop.note", number)
                with self.in_parallel(), self.in_series():
                    pass

    for start in (Nothing.start, Nothing.delay):
        run = start(0)
        work(app)
        assert (run.status, run.progress.total, run.progress.percent) == ("complete", 0, 100.0)
    Nothing.start(2)
    assert waves(app) == [[0], [1]]


def test_an_empty_flow_inside_holds_nothing_back(app: Celery) -> None:
    """A nested flow whose plan is empty completes when its turn comes, and what waits for it goes on."""

    class Empty(Orchestration):
        def plan(self) -> None:
            """Nothing."""

    class Outer(Orchestration):
        def plan(self) -> None:
            self.run(Empty)
            self.run("shop.note", "after")

    run = Outer.start()
    assert waves(app) == [["after"]]
    assert run.status == "complete"


def test_flows_of_every_kind_are_jobs_of_it(app: Celery) -> None:
    """By their class or by .s(...), each is one job here, and what follows waits for all of theirs."""

    class Graph(Workflow):
        def plan(self, word: str) -> None:
            self.run("shop.note", word, after=self.run("shop.note", "before"))

    class Whole(Orchestration):
        def plan(self) -> None:
            self.run(Graph, "graph")
            with self.in_parallel():
                self.run(Slices)
                self.run(Note.s("note"))
            self.run("shop.note", "last")

    run = Whole.start()
    assert waves(app) == [["before"], ["graph"], ["note", "slice 1", "slice 2"], ["last"]]
    assert dict(run.progress) == {"total": 4, "complete": 4, "failed": 0, "cancelled": 0, "pending": 0}
    assert run.total_progress.total == 6


def test_a_nested_flow_is_planned_in_a_worker_when_its_turn_comes(app: Celery) -> None:
    """Not before: so that it may depend on what ran before it, and costs nothing until then."""
    planned = []

    class Late(Orchestration):
        def plan(self) -> None:
            planned.append(len(notes_of(app)))
            for word in notes_of(app)[0]:
                self.run("shop.note", f"{word} again")

    class Outer(Orchestration):
        def plan(self) -> None:
            self.run("shop.note", "first")
            self.run(Late)

    Outer.start()
    assert planned == []
    assert waves(app) == [["first"], ["first again"]]
    assert planned == [1]


def test_start_delay_and_preview(app: Celery) -> None:
    """Start plans here, delay in a worker, preview runs nothing; all of them the same."""
    for start in (Import.start, Import.delay):
        notes_of(app).clear()
        run = start(1)
        assert run.status == "running"
        assert [word for wave in waves(app) for word in wave] == [
            "setup",
            "a",
            "part 0",
            "b",
            "nested",
            "finalize",
        ]
        assert run.status == "complete"
    assert len(Import.preview(1).plan.nodes) == 6


def test_jobs_that_a_step_adds_hold_back_what_waits_for_it(app: Celery) -> None:
    """By a block of the batch or by job.add: what comes after the step waits for them too, and for theirs."""

    @app.task(name="shop.spread", shared=False)
    def spread(depth: int) -> None:
        job = current_job()
        assert job is not None
        with job.batch.jobs():
            for part in range(2):
                app.tasks["shop.note"].delay(f"{depth} part {part}")
        job.add("shop.note", f"{depth} added")
        if depth:
            job.add("shop.spread", depth - 1)

    class Spread(Orchestration):
        def plan(self) -> None:
            self.run("shop.spread", 1)
            self.run("shop.note", "after")

    run = Spread.start()
    found = waves(app)
    assert found == [["1 added", "1 part 0", "1 part 1"], ["0 added", "0 part 0", "0 part 1"], ["after"]]
    assert (run.status, run.progress.total) == ("complete", 9)


def test_a_child_batch_that_a_step_adds_holds_back_what_waits_for_it(app: Celery) -> None:
    """A batch or a flow that is made with parent= in a step is waited for as well."""

    @app.task(name="shop.child", shared=False)
    def child() -> None:
        job = current_job()
        assert job is not None
        batch = Batch.create(parent=job.batch)
        with batch.jobs():
            app.tasks["shop.note"].delay("child")
        Import.using(parent=job.batch).start(0)

    class Outer(Orchestration):
        def plan(self) -> None:
            self.run("shop.child")
            self.run("shop.note", "after")

    run = Outer.start()
    assert waves(app)[-1] == ["after"]
    assert (run.status, run.progress.total) == ("complete", 4)


def test_it_is_a_class_like_any_other(app: Celery) -> None:
    """Helper methods, class attributes, super() and loops over data work in plan as anywhere."""

    class Base(Orchestration):
        abstract = True
        words: tuple[str, ...] = ()

        def plan(self) -> None:
            self.before()
            with self.in_parallel():
                for word in self.words:
                    self.note(word)

        def before(self) -> None:
            """Run nothing."""

        def note(self, word: str) -> None:
            self.run("shop.note", word)

    class Two(Base):
        words = ("a", "b")

        def before(self) -> None:
            self.note("before")

    class Three(Two):
        words = (*Two.words, "c")

        def plan(self) -> None:
            super().plan()
            self.note("end")

    Three.start()
    assert waves(app) == [["before"], ["a", "b", "c"], ["end"]]


def test_an_error_in_plan_leaves_nothing(app: Celery) -> None:
    """What plan raises is raised by start, also out of a block; the next start is as the first."""

    class Careless(Orchestration):
        def plan(self, problem: str) -> None:
            with self.in_parallel():
                self.run("shop.note", "x")
                if problem:
                    raise LookupError(problem)

    with pytest.raises(LookupError, match="no such import"):
        Careless.start("no such import")
    assert (Batch.list(), called(app)) == ([], [])
    run = Careless.start("")
    work(app)
    assert run.status == "complete"


def test_calls_in_plan_are_planned_only_through_run(app: Celery) -> None:
    """A task that plan calls as such is published, as from any code; it is no job of the flow."""

    class Calling(Orchestration):
        def plan(self) -> None:
            app.tasks["shop.note"].delay("called")
            self.run("shop.note", "planned")

    run = Calling.start()
    assert sorted(called(app)) == [("shop.note", "called"), ("shop.note", "planned")]
    assert run.progress.total == 1


def test_a_failure_skips_what_comes_after(app: Celery) -> None:
    """Its block's other jobs run; what waits for the block is skipped; retry goes on from there."""

    class Failing(Orchestration):
        def plan(self) -> None:
            with self.in_parallel():
                self.run("shop.fail")
                self.run("shop.note", "beside")
            self.run("shop.note", "after")

    run = Failing.start()
    assert waves(app) == [["beside"]]
    assert dict(run.progress) == {"total": 3, "complete": 1, "failed": 1, "cancelled": 1, "pending": 0}
    [failed] = run.failed_jobs
    assert (failed.task, failed.error_class) == ("shop.fail", "ValueError")


def test_without_an_app_there_is_an_error(app: Celery) -> None:
    """Where no app with Flows is found, or several, start says so and how to choose one."""
    from celery import _state

    _state._set_current_app(None)
    run = Note.using(app=app).start("x")
    assert run.status == "running"
    with flows_app(runtime_of(app).settings.database_url, name="second"), pytest.raises(NoFlows):
        Note.start("x")
