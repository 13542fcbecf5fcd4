"""Canvas: each shape as Celery runs it, without a result backend, in a block and as a flow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from apps import flows_app, messages, notes_of, rows, run_message, work
from celery import Celery, chain, chord, group, signature
from celery.canvas import _chain
from celery.result import AsyncResult, GroupResult
from shapes import SHAPES, Makers, tell

from celery_flows import Batch, Workflow
from celery_flows.errors import NotJson, PlanInvalid, ResultNotReady, UnknownTask


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app whose tasks return what can be told apart."""
    with flows_app(file_url, chunk_size=2) as app:
        app.task(name="shop.tell", shared=False)(tell)
        yield app


@pytest.fixture
def make(app: Celery) -> Makers:
    """Short names for its tasks."""
    return Makers(app)


@pytest.mark.parametrize("name", SHAPES)
def test_in_a_block(app: Celery, make: Makers, name: str) -> None:
    """Every task of a canvas called in a block is a job of the batch, and gets the results that it waits for."""
    shape, expected = SHAPES[name]
    canvas, batch = shape(make), Batch.create(app=app)
    with batch.jobs():
        canvas.apply_async()
        assert messages(app) == []
    work(app)
    assert sorted(notes_of(app), key=repr) == sorted(expected, key=repr)
    assert (batch.status, batch.progress.pending) == ("complete", 0)


@pytest.mark.parametrize("launch", ["start", "delay"])
def test_as_a_flow(app: Celery, make: Makers, launch: str) -> None:
    """A canvas is a flow, whether it is planned here or in a worker."""
    for shape, expected in SHAPES.values():
        notes_of(app).clear()
        flow = getattr(Workflow.from_canvas(shape(make)).using(app=app), launch)()
        work(app)
        assert sorted(notes_of(app), key=repr) == sorted(expected, key=repr)
        assert (flow.status, Batch.get(flow.id, app=app).kind) == ("complete", "canvas")


def test_no_message_grows(app: Celery, make: Makers) -> None:
    """A message carries its own call only: nothing of what comes after it, however the flow is started."""
    long = chain(*(make.s("x" * 50) for _ in range(50)), make.end)
    for launch in ("start", "delay"):
        getattr(Workflow.from_canvas(long).using(app=app), launch)()
        [message] = messages(app)
        assert len(message.body) < 500
        assert message.payload[2] == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def test_arguments_of_the_first(app: Celery, make: Makers) -> None:
    """What start is called with comes before the arguments of the first task, or of all the first ones."""
    Workflow.from_canvas(make.s("a") | make.end).using(app=app).start("one")
    Workflow.from_canvas(chord([make.s("b"), make.tell.si("c")], make.end)).using(app=app).start("one")
    work(app)
    assert sorted(notes_of(app), key=repr) == [("(one a)",), (["(one b)", "(c)"],)]


def test_options(app: Celery, make: Makers) -> None:
    """Each task keeps its options; those of a chain are the first task's, those of a chord all of its tasks'."""
    canvas = chain(make.s("a"), make.s("b").set(priority=3), make.s("c")).set(queue="slow", task_id="the-last")
    other = chord([make.s("d")], make.s("e")).set(queue="wide", countdown=5)
    with Batch.create(app=app).jobs():
        canvas.apply_async(headers={"x": 1})
        other.apply_async()
    options = {row.args: row.options for row in rows(app)}
    assert '"queue": "slow"' in options['["a"]']
    assert '"headers": {"x": 1}' in options['["a"]']
    assert '"priority": 3' in options['["b"]']
    assert "slow" not in options['["b"]']
    assert '"countdown": 5' in options['["d"]']
    assert ('"queue": "wide"' in options['["e"]'], "countdown" in options['["e"]']) == (True, False)
    assert [row.args for row in rows(app, id="the-last")] == ['["c"]']


def test_results_are_as_celery_gives_them(app: Celery, make: Makers) -> None:
    """A chain gives its last result, whose parents are those before; a group gives them all."""
    app.conf.result_backend = "cache+memory://"
    with Batch.create(app=app).jobs():
        result = (make.s("a") | make.two("b", "c") | make.s("d"))()
        pair = group(make.s("x"), make.s("y") | make.s("z"))()
        nothing, linked = chain(app=app).apply_async(), make.s("q").apply_async(link=make.s("r"))
        with pytest.raises(ResultNotReady):
            result.get()
    work(app)
    assert isinstance(result.parent, GroupResult)
    assert isinstance(result.parent.parent, AsyncResult)
    assert result.get() == "([((a) b) ((a) c)] d)"
    assert (result.parent.get(), result.parent.parent.get()) == (["((a) b)", "((a) c)"], "(a)")
    assert (pair.get(), nothing, linked.get()) == (["(x)", "((y) z)"], None, "(q)")


def test_a_failure_ends_what_waits(app: Celery, make: Makers) -> None:
    """What comes after a task that failed is skipped and never sent, in chains and in chords."""
    fail = app.tasks["shop.fail"]
    with (batch := Batch.create(app=app)).jobs():
        (fail.si() | make.s("b") | make.end)()
        chord([make.s("a"), fail.s("no")], make.s("c") | make.end)()
    work(app)
    assert notes_of(app) == []
    assert dict(batch.progress) == {"total": 7, "complete": 1, "failed": 2, "cancelled": 4, "pending": 0}
    assert batch.status == "failed"


def test_a_retry_goes_on(app: Celery, make: Makers) -> None:
    """A failed chord is run again with batch.retry(): the body gets the new results."""
    fails = [True]

    @app.task(name="shop.once", shared=False)
    def once() -> str:
        if fails.pop() if fails else False:
            raise ValueError("not yet")
        return "once"

    flow = Workflow.from_canvas(chord([make.s("a"), once.s()], make.end)).using(app=app).start()
    work(app)
    assert (flow.status, notes_of(app)) == ("failed", [])
    flow.retry()
    work(app)
    assert (flow.status, notes_of(app)) == ("complete", [(["(a)", "once"],)])


def test_what_cannot_be_planned(app: Celery, make: Makers) -> None:
    """What is no canvas, an unknown task, a chord without a body and what JSON can't hold are refused at start."""
    start = lambda canvas: Workflow.from_canvas(canvas).using(app=app).start()  # noqa: E731  # short
    with pytest.raises(PlanInvalid, match="is no signature"):
        Workflow.from_canvas(make.tell)
    with pytest.raises(UnknownTask, match=r"nobody\.has"):
        start(chain(make.s("a"), signature("nobody.has")))
    with pytest.raises(PlanInvalid, match="a chord has no body"):
        start(chord([make.s("a")]))
    with pytest.raises(NotJson, match=r"Positional argument 2 of shop\.tell"):
        start(chain(make.s("a"), make.s("b", object())))
    with pytest.raises(NotJson):
        Workflow.from_canvas(chain(make.s("a"), make.s(object()))).using(app=app).delay()
    with pytest.raises(TypeError, match="Cannot add link to group"):
        start(group(make.s("a"), make.s("b")).set(link=[make.end]))
    assert rows(app) == []


def test_arguments_are_checked_at_once(app: Celery) -> None:
    """A later task whose arguments can't fit is refused at the call: Celery finds that out in the worker."""
    add = app.tasks["shop.add"]
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3 were given"):
        Workflow.from_canvas(add.s(1) | add.s(2, 3)).using(app=app).start()
    Workflow.from_canvas(add.s(1) | add.s(2)).using(app=app).start()


def test_an_empty_group_is_no_step(app: Celery, make: Makers) -> None:
    """An empty group in a chain is passed over, wherever it stands, as newer versions of Celery do."""
    nothing = group([], app=app)
    with Batch.create(app=app).jobs():
        _chain(nothing, make.s("a"), nothing, make.end, app=app).apply_async()
    work(app)
    assert notes_of(app) == [("(a)",)]


def test_empty_ones(app: Celery) -> None:
    """An empty group and an empty chain are flows that complete at once."""
    for canvas in (group([], app=app), chain(app=app)):
        assert Workflow.from_canvas(canvas).using(app=app).start().status == "complete"


def test_a_preview_runs_nothing(app: Celery, make: Makers) -> None:
    """The preview of a canvas prints it as a tree."""
    preview = Workflow.from_canvas(make.s("a") | make.two("b", "c") | make.end).using(app=app).preview()
    assert str(preview).splitlines()[:3] == ["canvas", "  shop.tell", "  - shop.tell, 2 times"]
    assert rows(app) == []


def test_outside_of_blocks_it_is_celerys_own(app: Celery, make: Makers) -> None:
    """Where no block is open, a chain goes its native way: one message that carries the rest."""
    (make.s("a") | make.end)()
    [message] = messages(app)
    assert (len(message.payload[2]["chain"]), rows(app)) == (1, [])
    run_message(app, message)
    work(app)
    assert notes_of(app) == [("(a)",)]


def test_a_streaming_block_writes_it_whole(app: Celery, make: Makers) -> None:
    """In a streaming block all of a canvas is written in one transaction, however long it is."""
    batch = Batch.create(app=app)
    with batch.jobs(streaming=True):
        chord([make.s(name) for name in "abc"], make.s("d") | make.end)()
        assert len(rows(app, kind="task")) == 5
        work(app)
    assert (notes_of(app), batch.status) == ([("([(a) (b) (c)] d)",)], "complete")
