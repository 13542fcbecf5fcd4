"""A canvas as a part of something else: of other flows, and of a batch that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import flows_app, notes_of, rows, work
from celery import Celery, chain, chord, group
from shapes import Makers, tell

from celery_flows import Batch, Orchestration, Sequence, Workflow, current_job, step
from celery_flows.errors import PlanInvalid


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app whose tasks return what can be told apart; the only one of this process."""
    with flows_app(file_url) as app:
        app.task(name="shop.tell", shared=False)(tell)
        yield app


@pytest.fixture
def make(app: Celery) -> Makers:
    """Short names for its tasks."""
    return Makers(app)


def order(app: Celery) -> list[str]:
    """The first arguments of all notes, as they came."""
    return [one[0] for one in notes_of(app)]


class Around(Workflow):
    """A canvas between two jobs."""

    def plan(self, make: Any) -> None:
        m = make()
        before = self.run(m.note("before"))
        pair = self.run(group(m.note("one"), m.note("two")), after=before, name="pair")
        self.run(m.note("after"), after=pair)
        lost = self.run(chain(m.app.tasks["shop.fail"].si("no"), m.note("never")), after=pair)
        self.run(m.note("sorry"), after=lost, when="failure")


def test_in_a_workflow(app: Celery, make: Makers) -> None:
    """What waits for a canvas waits for all that ends it; all that begins it waits for what it comes after."""
    plan = Around.using(app=app)._class("x", Batch.create(app=app)._runtime).planned(lambda: make)
    assert len(plan.nodes) == 8
    flow = Around.using(app=app).start(lambda: make)
    work(app)
    assert order(app)[0] == "before"
    assert set(order(app)[1:3]) == {"one", "two"}
    assert set(order(app)[3:]) == {"after", "sorry"}
    assert flow.status == "failed"


class InTurn(Orchestration):
    """A canvas in a series."""

    def plan(self, make: Any) -> None:
        m = make()
        self.run(m.note("before"))
        self.run(chord([m.s("a"), m.s("b")], m.end))
        self.run(m.note("after"))


def test_in_an_orchestration(app: Celery, make: Makers) -> None:
    """A canvas takes its turn in a series."""
    InTurn.using(app=app).start(lambda: make)
    work(app)
    assert order(app) == ["before", ["(a)", "(b)"], "after"]


def test_in_a_sequence(app: Celery, make: Makers) -> None:
    """A canvas may be a step; its name is that of the task that ends it."""

    class Steps(Sequence):
        first = step(make.s("a") | make.end)
        second = step(make.note("after"))

    run = Steps.using(app=app).start()
    assert run.current_step == "first"
    work(app)
    assert (order(app), run.status) == (["(a)", "after"], "complete")


@pytest.mark.parametrize("way", ["add", "block"])
def test_added_by_a_job(app: Celery, make: Makers, way: str) -> None:
    """What waits for a job waits for a canvas too that it adds, and not for errbacks that nobody needs."""

    @app.task(name="shop.grow", shared=False)
    def grow() -> None:
        job, canvas = current_job(), make.s("a") | make.note("grown").on_error(make.note("errback"))
        assert job is not None
        if way == "add":
            job.add(canvas)
            return
        with job.batch.jobs():
            canvas()

    flow = Workflow.from_canvas(chain(grow.si(), make.note("after"))).using(app=app).start()
    work(app)
    assert (order(app), flow.status) == (["grown", "after"], "complete")
    assert [row.state for row in rows(app, task="celery_flows.errback")] == ["skipped"]


def test_added_behind_others(app: Celery, make: Makers) -> None:
    """A canvas that a job adds begins after what it is added behind; what is added behind it waits for its end."""

    @app.task(name="shop.grow", shared=False)
    def grow() -> None:
        job = current_job()
        assert job is not None
        before = [job.add(make.note(word)) for word in ("one", "two")]
        chord_ = job.add(chord([make.s("a"), make.s("b")], make.end), after=before, name="chord")
        pair = job.add(make.two("x", "y"), after=[chord_, "chord"], name="pair")
        job.add(make.tell.si("after") | make.end, after=pair)
        job.add(make.note("not needed"), after=pair, when="failure")

    flow = Workflow.from_canvas(chain(grow.si(), make.note("last"))).using(app=app).start()
    work(app)
    assert order(app) == ["one", "two", ["(a)", "(b)"], "(after)", "last"]
    assert (flow.status, flow.progress.total, flow.progress.cancelled) == ("complete", 12, 1)


def test_a_branch_for_the_failure_of_an_added_canvas(app: Celery, make: Makers) -> None:
    """It runs whichever of the canvas's tasks failed, and what waits for a canvas in vain is skipped."""

    @app.task(name="shop.grow", shared=False)
    def grow() -> None:
        job = current_job()
        assert job is not None
        broken = job.add(app.tasks["shop.fail"].si() | make.s("never"))
        job.add(make.note("sorry") | make.note("again"), after=broken, when="failure")
        job.add(make.two("in", "vain"), after=broken)

    flow = Workflow.from_canvas(grow.si()).using(app=app).start()
    work(app)
    assert order(app) == ["sorry", "again"]
    assert dict(flow.progress) == {"total": 7, "complete": 3, "failed": 1, "cancelled": 3, "pending": 0}


def test_no_canvas_is_added_that_is_empty(app: Celery, make: Makers) -> None:
    """There is nothing to wait for; a flow that is planned as a whole may be empty."""

    @app.task(name="shop.grow", shared=False)
    def grow() -> None:
        job = current_job()
        assert job is not None
        with pytest.raises(PlanInvalid, match="an empty canvas"):
            job.add(group([], app=app))

    with (batch := Batch.create(app=app)).jobs():
        grow.delay()
    work(app)
    assert (batch.status, batch.progress.total) == ("complete", 1)


def test_an_errback_of_a_job_that_added_others(app: Celery, make: Makers) -> None:
    """A job that adds others and then fails has its errback called, once they have ended, however they end."""

    @app.task(name="shop.grow", shared=False)
    def grow() -> None:
        job = current_job()
        assert job is not None
        with job.batch.jobs():
            make.note("added").delay()
        raise ValueError("no")

    with Batch.create(app=app).jobs():
        app.tasks["shop.grow"].si().on_error(make.note("errback")).delay()
    work(app)
    assert order(app) == ["added", "errback"]


def test_a_branch_that_nobody_needs_is_no_loss(app: Celery, make: Makers) -> None:
    """An errback that is not called is skipped, and does not count against the batch."""
    with (batch := Batch.create(app=app)).jobs():
        make.s("a").on_error(make.note("errback")).delay()
        chord([make.s("a")], make.s("b").on_error(make.note("errback")))()
    work(app)
    assert (notes_of(app), batch.status) == ([], "complete")
    assert dict(batch.progress) == {"total": 5, "complete": 3, "failed": 0, "cancelled": 2, "pending": 0}


def test_a_link_of_a_task(app: Celery, make: Makers) -> None:
    """What a call in a block links to is a job of the batch, as are the tasks that its chain names."""
    with (batch := Batch.create(app=app)).jobs():
        make.tell.apply_async(("a",), link=make.end, chain=[make.end, make.s("b")])
        make.tell.apply_async(("z",), link=dict(make.end))
    work(app)
    assert sorted(order(app)) == ["((a) b)", "(a)", "(z)"]
    assert batch.progress.total == 6


def test_one_of_a_chord_is_refused(app: Celery, make: Makers) -> None:
    """A call that Celery itself would count for a chord is refused, and nothing of the block is enrolled."""
    batch = Batch.create(app=app)
    with pytest.raises(PlanInvalid, match=r"shop\.tell is called as one of a chord"), batch.jobs():
        make.tell.apply_async(("a",), chord=make.end)
    with pytest.raises(PlanInvalid, match="is no signature"), batch.jobs():
        make.tell.apply_async(("a",), link=print)
    assert rows(app, batch_id=batch.id) == []
