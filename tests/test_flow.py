"""What all kinds of flow have in common: starting, finding, nesting, steering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from apps import called, flows_app, messages, notes_of, rows, run_message, runtime_of, work
from celery import Celery

from celery_flows import Batch, BatchExists, BatchingTask, Orchestration, Sequence, Workflow, step
from celery_flows.batch import classes
from celery_flows.errors import InvalidSetting, UnknownEvent


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


class Note(Orchestration):
    """A flow of one job."""

    def plan(self, word: str = "noted") -> None:
        self.run("shop.note", word)


class Form(Sequence):
    """A sequence of one step."""

    write = step("shop.note")


class Graph(Workflow):
    """A workflow of two jobs."""

    def plan(self, word: str = "noted") -> None:
        self.run("shop.note", word, after=self.run("shop.note", f"before {word}"))


class Slices(BatchingTask):
    """One slice, or so many."""

    def split(self, number: int = 1) -> Iterator[int]:
        yield from range(number)

    def process(self, part: int) -> None:
        """Do nothing."""


class Deep(Orchestration):
    """A flow in a flow, and so on, ending in a job that notes or fails."""

    def plan(self, depth: int, task: str = "shop.note") -> None:
        if depth:
            self.run(Deep.s(depth - 1, task))
            self.run("shop.note", f"after {depth - 1}")
        else:
            self.run(task, "the deepest")


KINDS = [Note, Form, Graph, Slices]


class TestStarting:
    """start, delay and using."""

    @pytest.mark.parametrize("flow", KINDS)
    def test_every_kind_is_found_by_its_id(self, app: Celery, flow: Any) -> None:
        """Batch.get and Batch.list give the flow's own class; kind and status say what it is."""
        run = flow.start()
        again = Batch.get(run.id)
        assert (type(again), again, again.kind) == (flow, run, flow.flow_kind)
        assert [type(one) for one in Batch.list(kind=flow.flow_kind)] == [flow]
        work(app)
        assert run.wait(timeout=1) == "complete"

    def test_a_class_that_is_not_imported_here(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its batches are plain ones, which can be watched and steered all the same."""
        run = Note.start()
        monkeypatch.delitem(classes, f"{Note.__module__}.Note")
        plain = Batch.get(run.id)
        assert (type(plain), plain.kind) == (Batch, "orchestration")
        plain.cancel()
        assert plain.status == "cancelled"

    @pytest.mark.parametrize("how", ["start", "delay"])
    def test_using(self, app: Celery, how: str) -> None:
        """What Batch.create takes is said with using(...), and is there as on any batch."""
        said = Note.using(description="Night", context={"a": 1}, tags=["night"], key="one", tolerate="5%")
        run = getattr(said, how)("x")
        assert (run.description, run.context, run.tags) == ("Night", {"a": 1}, ("night",)) or run.tags == ["night"]
        assert [one.id for one in Batch.list(tag="night")] == [run.id]
        with pytest.raises(BatchExists) as refused:
            getattr(said, how)("y")
        assert refused.value.batch_id == run.id
        work(app)
        assert run.status == "complete"
        getattr(said, how)("z")
        assert len(Batch.list(tag="night")) == 2

    def test_callbacks_of_a_flow_about_to_start(self, app: Celery) -> None:
        """With using(...).on(...) they are there before the first job runs; a wrong one starts nothing."""
        note = app.tasks["shop.note"]
        run = Note.using().on("complete", note.s("done")).on("settled", note.si("over")).start("x")
        work(app)
        assert notes_of(app) == [("x",), (run.id, "done"), ("over",)]
        with pytest.raises(UnknownEvent):
            Note.using().on("done", note).start("x")
        assert len(Batch.list()) == 1

    def test_using_refuses(self, app: Celery) -> None:
        """What is wrong is refused before anything is written."""
        for wrong in ({"tolerate": -1}, {"tags": "night"}, {"on_loss": "shrug"}):
            with pytest.raises(InvalidSetting):
                Note.using(**wrong).start()
        assert Batch.list() == []

    def test_as_a_child(self, app: Celery) -> None:
        """With parent= a flow is one job of that batch, which waits for it."""
        parent = Batch.create(app=app)
        with parent.jobs():
            app.tasks["shop.note"].delay("own")
        child = Note.using(parent=parent).start("child")
        assert (child.parent, parent.progress.total) == (parent, 2)
        work(app)
        assert (child.status, parent.status) == ("complete", "complete")

    @pytest.mark.parametrize("flow", KINDS)
    @pytest.mark.parametrize("how", ["start", "delay"])
    def test_in_a_block(self, app: Celery, flow: Any, how: str) -> None:
        """In an open block it is a child of that batch, written and published with the block or not at all."""
        batch = Batch.create(app=app)
        with pytest.raises(LookupError), batch.jobs():
            getattr(flow, how)()
            raise LookupError
        assert (rows(app), called(app), len(Batch.list())) == ([], [], 1)
        with batch.jobs():
            app.tasks["shop.note"].delay("own")
            run = getattr(flow, how)()
            run.on("settled", app.tasks["shop.note"].s())
            assert called(app) == []
        assert (batch.progress.total, run.parent) == (2, batch)
        work(app)
        assert (run.status, batch.status) == ("complete", "complete")
        assert (run.id,) in notes_of(app)

    def test_in_a_joined_transaction(self, app: Celery) -> None:
        """With connection= all of a flow commits or rolls back with the caller, and is published after."""
        engine = sa.create_engine(runtime_of(app).settings.database_url or "")
        for flow in KINDS:
            with engine.connect() as connection:
                gone: Batch = flow.using(connection=connection).start()
                assert Batch.get(gone.id, connection=connection) == gone
                connection.rollback()
            assert (rows(app), called(app)) == ([], [])
            with engine.begin() as connection:
                run = flow.using(connection=connection).start()
                assert called(app) == []
            work(app)
            assert run.status == "complete"
            forget(app)
        engine.dispose()

    def test_eager(self, app: Celery) -> None:
        """With task_always_eager a flow has run when start or delay returns."""
        app.conf.task_always_eager = True
        for flow in (*KINDS, Deep):
            for how in ("start", "delay"):
                run = getattr(flow, how)(*([2] if flow is Deep else []))
                assert run.status == "complete", (flow, how)
        assert notes_of(app)[-3:] == [("the deepest",), ("after 0",), ("after 1",)]
        run = Deep.start(2, "shop.fail")
        assert (run.status, called(app)) == ("failed", [])

    def test_handlers_run_where_the_class_says(self, app: Celery) -> None:
        """In the class's queue, also for a flow inside another."""

        class Queued(Note):
            queue = "own"

            def on_settled(self, batch: Batch) -> None:
                """Do nothing."""

        class Outer(Orchestration):
            def plan(self) -> None:
                self.run(Queued)

        for flow in (Queued, Outer):
            run = flow.start()
            work(app)
            if flow is Outer:
                [planning] = messages(app, "own")
                run_message(app, planning)
                work(app)
            [handler] = messages(app, "own")
            assert handler.headers["task"].endswith("Queued.on_settled")
            run_message(app, handler)
            work(app)
            assert run.status == "complete"

    def test_handlers_run_in_the_callback_queue(self, file_url: str) -> None:
        """Without a queue of the class's own, in that of the setting callback_queue, as other callbacks do."""

        class Handled(Note):
            def on_complete(self, batch: Batch) -> None:
                """Do nothing."""

        class Around(Orchestration):
            def plan(self) -> None:
                self.run(Handled)

        with flows_app(file_url, callback_queue="callbacks") as app:
            for flow in (Handled, Around):
                flow.using(app=app).start()
                work(app)
                [name] = called(app, "callbacks")
                assert name[0].endswith("Handled.on_complete")


def forget(app: Celery) -> None:
    """Delete all rows."""
    database = runtime_of(app).database
    with database.engine.begin() as connection:
        for table in database.tables.metadata.sorted_tables:
            connection.execute(table.delete())


class TestExplaining:
    """What explain() and the lists say of a flow."""

    def test_a_waiting_job_says_for_which(self, app: Celery) -> None:
        """By the names of the jobs that have not ended, at most five; planning and flows inside too."""

        class Wide(Workflow):
            def plan(self) -> None:
                first = [self.run("shop.note", name=f"first {number}") for number in range(7)]
                self.run("shop.note", after=first, name="last")
                self.run(Note, after=first[:2], name="inside")

        run = Wide.start()
        reasons = {reason.what: reason for reason in run.explain().reasons}
        listed = ", ".join(f"first {number} (queued)" for number in range(5))
        assert reasons["job 'last',"].then == f"It waits for {listed} and others."
        assert reasons["job 'inside',"].then == "It waits for first 0 (queued), first 1 (queued)."
        assert "job 'last', " in str(run.explain())
        waiting = [job.name for job in run.pending_jobs if job.state == "waiting"]
        assert waiting == ["last", "inside"]
        [delayed] = Note.delay().explain().reasons
        assert (delayed.what, delayed.state) == ("planning", "queued")

    def test_one_that_was_forgotten_says_what_the_sweep_does(self, app: Celery) -> None:
        """Where a worker died before it saw to what waits, the next sweep does; a join is named so."""

        class Joined(Orchestration):
            def plan(self) -> None:
                for _ in "12":
                    with self.in_parallel():
                        self.run("shop.note", 1)
                        self.run("shop.note", 2)

        run = Joined.start()
        reasons = run.explain().reasons
        assert [reason.what for reason in reasons] == ["job"] * 4 + ["join"]
        assert reasons[2].then == "It waits for a join (waiting)."
        assert reasons[4].then == "It waits for shop.note (queued), shop.note (queued)."
        database = runtime_of(app).database
        with database.engine.begin() as connection:
            connection.execute(database.tables.edges.update().values(is_open=0))
        seen_to = "What it waited for has ended: the next sweep sees to it, within 15 s."
        assert {reason.then for reason in run.explain().reasons if reason.state == "waiting"} == {seen_to}
        assert [job.kind for job in run.pending_jobs] == ["task"] * 4
