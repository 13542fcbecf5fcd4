"""Celery's stamps: every task of a canvas has those that it has natively."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apps import flows_app, work
from celery import Celery, Task, chain, chord, group
from celery.canvas import StampingVisitor

from celery_flows import Batch, Workflow

Stamps = dict[str, dict[str, Any]]


class Visitor(StampingVisitor):
    """Stamps of each sort."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"who": sig.kwargs.get("name"), "tenant": [7]}

    def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"is_body": True}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
        return {"is_link": True}

    def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:
        return {"is_errback": True}


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app whose tasks note their stamps; a backend in memory counts native chords."""
    with flows_app(file_url) as app:
        app.conf.result_backend = "cache+memory://"
        app.seen = {}

        @app.task(name="shop.stamped", bind=True, shared=False)
        def stamped(task: Task, *args: Any, name: str, fails: bool = False) -> None:
            app.seen[name] = {key: task.request.stamps[key] for key in task.request.stamped_headers or ()}
            if fails:
                raise ValueError(name)

        yield app


def canvases(app: Celery) -> list[Any]:
    """One of each shape, with a link and an errback."""

    def s(name: str, **more: Any) -> Any:
        return app.tasks["shop.stamped"].s(name=name, **more)

    return [
        s("alone"),
        chain(s("first"), group(s("left"), s("right")), s("last")),
        chord([s("head"), s("other") | s("tail")], s("body")),
        s("linked").set(link=s("link")),
        s("fails", fails=True).on_error(s("errback")),
    ]


def natively(canvas: Any, app: Celery) -> None:
    """Call it as Celery does."""
    canvas.apply_async()


def in_a_block(canvas: Any, app: Celery) -> None:
    """Call it in the block of a batch."""
    with Batch.create(app=app).jobs():
        canvas.apply_async()


def as_a_flow(canvas: Any, app: Celery) -> None:
    """Make a flow of it."""
    Workflow.from_canvas(canvas).using(app=app).start()


def planned_in_a_worker(canvas: Any, app: Celery) -> None:
    """Make a flow of it, which a worker plans."""
    Workflow.from_canvas(canvas).using(app=app).delay()


def seen(app: Celery, launch: Callable[[Any, Celery], None], stamp: Callable[[Any], Any]) -> Stamps:
    """The stamps of each task, by its name."""
    app.seen.clear()
    for canvas in canvases(app):
        stamp(canvas)
        launch(canvas, app)
        work(app)
    return dict(app.seen)


@pytest.mark.parametrize("launch", [in_a_block, as_a_flow, planned_in_a_worker])
@pytest.mark.parametrize(
    "stamp",
    [lambda canvas: canvas.stamp(Visitor()), lambda canvas: canvas.stamp(night=1)],
    ids=["by a visitor", "by name"],
)
def test_stamps_are_as_celery_gives_them(app: Celery, launch: Any, stamp: Any) -> None:
    """Those of a visitor and those by name, on each task, on links, errbacks and bodies, in every message."""
    expected = seen(app, natively, stamp)
    assert len(expected) == 13
    # Celery itself does not stamp a body by name.
    assert [name for name, stamps in expected.items() if not stamps] in ([], ["last", "body"])
    assert seen(app, launch, stamp) == expected


def test_a_retried_job_keeps_its_stamps(app: Celery) -> None:
    """They are part of the call, so they are there in each of its messages."""
    [*_, canvas] = canvases(app)
    canvas.stamp(night=1)
    with (batch := Batch.create(app=app)).jobs():
        canvas.apply_async()
    work(app)
    app.seen.clear()
    batch.retry()
    work(app)
    assert app.seen["fails"] == {"night": 1}
