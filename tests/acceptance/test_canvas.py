"""Canvas: each shape runs natively, with Redis as result backend, and durably without one, and does the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import celery
import pytest
from acceptance.running import PATIENCE, Project, wait_for
from celery import Celery, chain, chord, group
from shapes import SHAPES, Makers

from celery_flows import Batch


class Failing(Makers):
    """Short names for tasks of canvases in which something fails."""

    def __init__(self, app: Celery, key: str) -> None:
        super().__init__(app, "jobs.canvas_", key=key)
        self._key = key

    def fail(self, name: str = "fail") -> Any:
        """A call that fails, under an id of this name."""
        return self.app.tasks["jobs.canvas_fail"].s().set(task_id=f"{self._key}:{name}")

    def told(self, name: str) -> Any:
        """A call that succeeds, under an id of this name."""
        return self.s(name).set(task_id=f"{self._key}:{name}")

    @property
    def by_id(self) -> Any:
        """An errback of the older sort."""
        return self.app.tasks["jobs.canvas_erred"].s(key=self._key)

    @property
    def by_error(self) -> Any:
        """An errback of the newer sort."""
        return self.app.tasks["jobs.canvas_erred_with"].s(key=self._key)


_BODY = "Dependency KEY:fail raised ValueError('on purpose')"

FAILURES: dict[str, tuple[Callable[[Failing], Any], list[list[Any]]]] = {
    "errback": (lambda m: m.fail().on_error(m.by_id), [["id", "KEY:fail"]]),
    "errback with the error": (
        lambda m: m.fail().on_error(m.by_error),
        [["error", "KEY:fail", "ValueError", "on purpose"]],
    ),
    "two errbacks": (
        lambda m: m.fail().on_error(m.by_id).on_error(m.by_error),
        [["error", "KEY:fail", "ValueError", "on purpose"], ["id", "KEY:fail"]],
    ),
    "errback of a chain": (
        lambda m: chain(m.told("a"), m.fail(), m.told("b"), m.end).on_error(m.by_id),
        [["id", "KEY:fail"]],
    ),
    "errback of a group's members": (
        lambda m: group(m.fail().on_error(m.by_id), m.told("a") | m.end),
        [["(a)"], ["id", "KEY:fail"]],
    ),
    "errback of a body": (
        lambda m: chord([m.fail(), m.told("a")], m.told("body").on_error(m.by_id)),
        [["id", "KEY:body"]],
    ),
    "errback with the error of a body": (
        lambda m: chord([m.fail(), m.told("a")], m.told("body").on_error(m.by_error)),
        [["error", "KEY:body", "ChordError", _BODY]],
    ),
    "errback of a body that fails": (
        lambda m: chord([m.told("a")], m.fail().on_error(m.by_id)),
        [["id", "KEY:fail"]],
    ),
    "errback of a body in a chain": (
        lambda m: chain(m.told("a"), group(m.fail(), m.told("b")), m.told("body").on_error(m.by_id), m.end),
        [["id", "KEY:body"]],
    ),
    "errbacks of a group as a body": (
        lambda m: chord(
            [m.fail(), m.told("x")],
            group(m.told("b").on_error(m.by_id), m.told("c").on_error(m.by_id)),
        ),
        [["id", "KEY:b"], ["id", "KEY:c"]],
    ),
    "errbacks of nested bodies": (
        lambda m: chord(
            [chord([m.fail(), m.told("a")], m.told("inner").on_error(m.by_id)), m.told("b")],
            m.told("body").on_error(m.by_id),
        ),
        [["id", "KEY:body"], ["id", "KEY:inner"]],
    ),
    "a chain in a header fails": (
        lambda m: chord([m.fail() | m.told("a"), m.told("b")], m.told("body").on_error(m.by_id)),
        [["id", "KEY:body"]],
    ),
    "link of a failure": (lambda m: group(m.fail().set(link=[m.end]), m.note("x")), [["x"]]),
    "the chord never begins": (
        lambda m: group(
            chain(m.fail(), chord([m.told("a"), m.told("b")], m.told("body").on_error(m.by_id))), m.note("x")
        ),
        [["x"]],
    ),
}

#: Every canvas, with what its last tasks are to note.
EVERY: dict[str, tuple[Callable[[Any], Any], list[list[Any]]]] = {
    **{name: (make, [list(one) for one in expected]) for name, (make, expected) in SHAPES.items()},
    **FAILURES,
}

#: What differs natively: Celery turns the order of a group in a header round, and an outer chord hangs for ever
#: whose member is a chord that failed.
NATIVELY: dict[str, list[list[Any]]] = {
    "groups in a group": [[["(b)", "(a)", "(c)"]]],
    "errbacks of nested bodies": [["id", "KEY:inner"]],
}

#: What Celery does since 5.7 only.
IS_NEW = tuple(map(int, celery.__version__.split(".")[:2])) >= (5, 7)
NEWLY = ("errback of a body in a chain", "errbacks of a group as a body")

Notes = Callable[[str], list[list[Any]]]


@pytest.fixture(scope="module")
def natively(make_project: Callable[..., Project], redis_url: str) -> Iterator[Notes]:
    """All canvases on their way in Celery's own manner; ask for what one of them has noted."""
    project = make_project("redis", "sqlite", result_backend=redis_url)
    with project.worker("threads", 4):
        for name, (make, _) in EVERY.items():
            make(Failing(project.app, name)).apply_async()
        yield lambda name: wait_for_notes(project, name)
    # Celery leaves its backend's connections to the garbage collector, and results that it finds connect again.
    backend = project.app.backend
    backend.remove_pending_result = lambda result: result
    backend.result_consumer.stop()
    backend.client.connection_pool.disconnect()


@pytest.fixture(scope="module")
def durably(make_project: Callable[..., Project]) -> Iterator[Notes]:
    """The same in a block each, without a result backend, each batch at its end before it is asked for."""
    project = make_project("redis", "postgresql")
    with ExitStack() as stack:
        stack.enter_context(project.worker("threads", 4))
        batches: dict[str, Batch] = {}
        for name, (make, _) in EVERY.items():
            batches[name] = Batch.create(app=project.app)
            with batches[name].jobs():
                make(Failing(project.app, name)).apply_async()

        def notes(name: str) -> list[list[Any]]:
            assert batches[name].wait(PATIENCE) == ("failed" if name in FAILURES else "complete")
            return noted(project, name)

        yield notes


def noted(project: Project, name: str) -> list[list[Any]]:
    """What was noted of a canvas so far; ids of its tasks without the canvas's name."""
    found = [
        [re.sub(rf"{re.escape(name)}:", "KEY:", word) if isinstance(word, str) else word for word in words]
        for words in project.seen("noted", name)
    ]
    return sorted(found, key=repr)


def wait_for_notes(project: Project, name: str) -> list[list[Any]]:
    """The same, once there are as many as there must be."""
    number = len(NATIVELY.get(name, EVERY[name][1]))
    wait_for(lambda: len(noted(project, name)) >= number, lambda: (name, noted(project, name)))
    return noted(project, name)


@pytest.mark.parametrize("name", EVERY)
def test_a_canvas_does_the_same_either_way(natively: Notes, durably: Notes, name: str) -> None:
    """The last tasks, and the errbacks, are called with the same; what must not run does not."""
    expected = EVERY[name][1]
    assert durably(name) == sorted(expected, key=repr)
    if IS_NEW or name not in NEWLY:
        assert natively(name) == sorted(NATIVELY.get(name, expected), key=repr)
