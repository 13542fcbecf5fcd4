"""Sequences: steps one after another, sharing data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, flows_app, messages, notes_of, rows, run_message, runtime_of, work
from celery import Celery, signature
from celery.exceptions import NotRegistered

from celery_flows import Batch, BatchingTask, Orchestration, PlanInvalid, Sequence, current_job, step
from celery_flows.errors import BlockMisuse
from celery_flows.messaging.gate import end
from celery_flows.messaging.header import Delivery
from celery_flows.states import JobState


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find, and that notes what the steps below did."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


def noted(word: str) -> None:
    """Note what a step did, with its app."""
    job = current_job()
    assert job is not None
    notes_of(job._claim.runtime.app).append((word,))


class ContactForm(Sequence):
    """The sequence of the documentation: one step has the name of a method that every batch has."""

    create = step("shop.note")
    assign = step(signature("shop.add", (1,)), queue="slow", countdown=5)

    @step
    def notify(self) -> None:
        noted("notify")
        self.data["notified"] = True

    @step(retries=2)
    def archive(self) -> None:
        assert self.helper() == "helped"
        self.data["archived"] = self.data["name"].upper()

    def helper(self) -> str:
        return "helped"


class ShortForm(ContactForm):
    """Overrides two steps, and adds one."""

    assign = step(signature("shop.note", ("short",)))

    def notify(self) -> None:
        super().notify()
        self.data["short"] = True

    @step
    def thank(self) -> None:
        noted("thank")


class Steered(Sequence):
    """Does what the run's data says."""

    first = step("shop.note")

    @step
    def second(self) -> None:
        noted("second")
        self.data["seen"] = self.data.get("seen", 0) + 1
        if self.data.get("fails"):
            raise ValueError("told to")

    @step
    def third(self) -> None:
        noted("third")

    def on_complete(self, batch: Batch) -> None:
        noted(f"complete {batch.status} {batch.id == self.id}")

    def on_failure(self, batch: Batch) -> None:
        self.data["failed at"] = self.current_step

    def on_settled(self, batch: Batch) -> None:
        noted(f"settled {batch.status}")


class TestDeclaring:
    """What a class says."""

    def test_the_documented_one(self, app: Celery) -> None:
        """Steps run in order, each with its own arguments only, and the data is what they made of it."""
        app.tasks["shop.add"].queue = None
        run = ContactForm.start(name="Joel", github="joelmoss")
        assert dict(run.data) == {"name": "Joel", "github": "joelmoss"}
        assert run.current_step == "create"
        work(app)
        [waiting] = messages(app, "slow")
        assert (run.current_step, waiting.headers["eta"] is not None) == ("assign", True)
        run_message(app, waiting)
        work(app)
        assert (run.status, run.current_step) == ("complete", None)
        assert notes_of(app) == [(), ("notify",)]
        assert dict(run.data) == {"archived": "JOEL", "github": "joelmoss", "name": "Joel", "notified": True}
        assert [job.name for job in run.completed_jobs] == ["create", "assign", "notify", "archive"]

    def test_a_step_that_is_named_as_a_method_of_batches(self, app: Celery) -> None:
        """The run's own methods stay what they are, whatever the steps are called."""

        class Odd(Sequence):
            create = step("shop.note")
            cancel = step("shop.note")

            @step
            def data(self) -> None:
                noted("data")

        class Odder(Odd):
            cancel = step("shop.add")

        assert [list(cls.steps) for cls in (Odd, Odder)] == [["create", "cancel", "data"]] * 2
        assert (Odd.steps["cancel"].target, Odder.steps["cancel"].target) == ("shop.note", "shop.add")
        run = Odd.start(x=1)
        assert dict(run.data) == {"x": 1}
        assert isinstance(Odd.create(app=app), Batch)
        run.cancel()
        assert run.status == "cancelled"

    @pytest.mark.parametrize("name", ["plan", "on_complete", "on_failure", "on_settled"])
    def test_names_that_are_taken(self, name: str) -> None:
        """A step can't have the name of what its sequence's own tasks are called after."""
        with pytest.raises(PlanInvalid, match=f"can't be named '{name}'"):
            type("Bad", (Sequence,), {name: step("shop.note")})

    def test_inheritance(self, app: Celery) -> None:
        """An overridden step keeps its place and options, super() works, and new steps come after."""
        assert list(ShortForm.steps) == ["create", "assign", "notify", "archive", "thank"]
        assert ShortForm.steps["assign"].options["countdown"] is None
        run = ShortForm.start(name="Joel")
        work(app)
        assert (run.status, run.data["short"]) == ("complete", True)
        assert notes_of(app) == [(), ("short",), ("notify",), ("thank",)]
        assert list(ContactForm.steps) == ["create", "assign", "notify", "archive"]

    def test_method_steps_are_registered_per_class(self, app: Celery) -> None:
        """Each concrete class has tasks "<module>.<Class>.<method>" of its own, inherited steps included."""
        app.finalize()
        module = ContactForm.__module__
        for cls in ("ContactForm", "ShortForm"):
            assert {f"{module}.{cls}.notify", f"{module}.{cls}.archive"} <= app.tasks.keys()
        run = ShortForm.start(name="Joel")
        assert f"{module}.ShortForm.archive" in [row.task for row in rows(app, batch_id=run.id)]

    def test_an_abstract_one_has_no_tasks(self, app: Celery) -> None:
        """A class that is only there to be inherited from says abstract = True."""

        class Base(Sequence):
            abstract = True

            @step
            def common(self) -> None:
                noted("common")

        class Concrete(Base):
            own = step("shop.note")

        app.finalize()
        assert [name for name in app.tasks if name.endswith("Base.common")] == []
        work_off(app, Concrete.start())
        assert notes_of(app) == [("common",), ()]

    def test_mixins_and_removal(self, app: Celery) -> None:
        """Steps come from any base, and a step that a subclass sets to None is none."""

        class Audited:
            audit = step("shop.note")

        class Sale(Audited, Sequence):
            sell = step("shop.note")

        class Quiet(Sale):
            audit = None

        assert (list(Sale.steps), list(Quiet.steps)) == (["audit", "sell"], ["sell"])
        work_off(app, Quiet.start())

    def test_steps_are_shared_between_sequences(self, app: Celery) -> None:
        """One declared step may stand in several sequences, under several names."""
        shared = step("shop.note", queue=None)

        class One(Sequence):
            mail = shared

        class Two(Sequence):
            letter = shared
            mail = One.mail

        work_off(app, One.start())
        work_off(app, run := Two.start())
        assert [job.name for job in run.completed_jobs] == ["letter", "mail"]
        assert notes_of(app) == [(), (), ()]

    def test_flows_are_steps(self, app: Celery) -> None:
        """A step may be an orchestration, another sequence or a batching task."""

        class Slices(BatchingTask):
            def split(self) -> Iterator[int]:
                yield from (1, 2)

            def process(self, part: int) -> None:
                noted(f"slice {part}")

        class Inner(Orchestration):
            def plan(self, word: str) -> None:
                self.run("shop.note", word)

        class Outer(Sequence):
            slices = step(Slices)
            inner = step(Inner.s("in"))
            form = step(Steered)
            last = step("shop.note")

        work_off(app, Outer.start())
        assert [note[0] if note else "" for note in notes_of(app)] == [
            "slice 1", "slice 2", "in", "", "second", "third", "complete complete True", "settled complete", "",
        ]  # fmt: skip

    def test_arguments_by_position_are_refused(self, app: Celery) -> None:
        """Data has names."""
        with pytest.raises(TypeError, match=r"Steered takes its data by name: start\(key=value\)"):
            Steered.start(1)
        assert Batch.list() == []

    def test_a_method_step_is_no_task_by_itself(self, app: Celery) -> None:
        """Called outside of a run it says how to start one."""
        app.finalize()
        with pytest.raises(BlockMisuse, match=r"start one with Steered\.start\("):
            app.tasks[f"{Steered.__module__}.Steered.second"]()


def work_off(app: Celery, run: Any) -> None:
    """Run what is due, and see that the run is complete."""
    work(app)
    assert run.status == "complete", run.explain()


class TestRunning:
    """What becomes of a run."""

    def test_handlers(self, app: Celery) -> None:
        """on_complete and on_settled are called once each, with the batch, on the run's own class."""
        work_off(app, Steered.start())
        assert notes_of(app)[-2:] == [("complete complete True",), ("settled complete",)]

    def test_a_failure_stops_it_and_retry_goes_on_from_there(self, app: Celery) -> None:
        """Steps after the failed one are skipped; retry runs it and them, and not those before it."""
        run = Steered.start(fails=True)
        work(app)
        assert (run.status, run.current_step, run.data["failed at"]) == ("failed", "second", "second")
        assert dict(run.progress) == {"total": 3, "complete": 1, "failed": 1, "cancelled": 1, "pending": 0}
        run.data["fails"] = False
        run.retry()
        assert (run.status, run.current_step) == ("running", "second")
        work(app)
        assert (run.status, run.current_step) == ("complete", None)
        words = [note[0] if note else "first" for note in notes_of(app)]
        assert words == [
            "first", "second", "settled failed", "second", "third", "complete complete True", "settled complete",
        ]  # fmt: skip

    def test_redelivery(self, app: Celery) -> None:
        """Each message delivered twice, before and after its successor ran: every step runs once, in order."""
        run, old = Steered.start(), list[Any]()
        while found := messages(app):
            old += found
            for message in [*found, *old]:
                run_message(app, message)
        for message in old:
            run_message(app, message)
        assert run.status == "complete"
        assert notes_of(app) == [(), ("second",), ("third",), ("complete complete True",), ("settled complete",)]
        assert {row.attempt for row in rows(app)} <= {0, 1}

    def test_a_deploy_leaves_runs_as_they_were_planned(self, app: Celery) -> None:
        """A class that changes meanwhile changes later runs only; a task that is gone fails its job, clearly."""

        @app.task(name="shop.old", shared=False)
        def old() -> None:
            noted("old")

        def declare(*names: str) -> Any:
            body = {"__module__": __name__, "__qualname__": "Deployed"}
            return type("Deployed", (Sequence,), body | {f"step{at}": step(one) for at, one in enumerate(names)})

        before = declare("shop.note", "shop.old", "shop.note").start()
        gone = declare("shop.note", "shop.old").start()
        after_class = declare("shop.note", "shop.note")
        [first, second] = messages(app)
        run_message(app, first)
        work(app)
        assert (before.status, len(before.completed_jobs)) == ("complete", 3)
        assert isinstance(Batch.get(before.id), after_class)
        app.tasks.pop("shop.old")
        run_message(app, second)
        [left] = messages(app)
        assert (left.headers["task"], gone.current_step) == ("shop.old", "step1")
        # What a worker does with a message whose task it does not know.
        delivery = Delivery.read(left.headers)
        assert delivery is not None
        end(runtime_of(app), delivery, JobState.FAILED, NotRegistered("shop.old"))
        [failed] = gone.failed_jobs
        assert (gone.status, failed.error_class, failed.error_message) == ("failed", "NotRegistered", "'shop.old'")

    def test_current_step_of_a_run_that_is_planned_later(self, app: Celery) -> None:
        """Until a worker has planned it there is no step; with it, the data is there."""
        run = Steered.delay(a=1)
        assert (run.current_step, dict(run.data)) == (None, {})
        [planning] = messages(app)
        assert planning.headers["task"] == f"{Steered.__module__}.Steered.plan"
        run_message(app, planning)
        assert (run.current_step, dict(run.data)) == ("first", {"a": 1})

    def test_options_reach_the_message(self, app: Celery) -> None:
        """A step's queue, countdown and whatever else apply_async takes are those of its call."""

        class Optioned(Sequence):
            one = step("shop.note", queue="slow", priority=3, expires=3600)

            @step(queue="fast")
            def two(self) -> None:
                noted("two")

        run = Optioned.start()
        [message] = messages(app, "slow")
        assert (message.properties["priority"], message.headers["expires"] is not None) == (3, True)
        run_message(app, message)
        assert called(app, "fast") == [(f"{Optioned.__module__}.{Optioned.__qualname__}.two",)]
        assert json.loads(rows(app, batch_id=run.id)[1].options)["queue"] == "fast"
