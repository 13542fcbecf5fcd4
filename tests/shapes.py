"""Canvases of many shapes, each with what its last tasks are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord, group


class Makers:
    """Short names for the tasks of which canvases are made."""

    def __init__(self, app: Celery, tasks: str = "shop.", **more: Any) -> None:
        """Begin.

        Args:
            tasks: what the names of its tasks begin with.
            more: what the last tasks are called with besides.
        """
        self.app = app
        self.tell = app.tasks[f"{tasks}tell"]
        self._note = app.tasks[f"{tasks}note"]
        self._more = more

    def s(self, *args: Any) -> Any:
        """A call that tells what it was called with."""
        return self.tell.s(*args)

    def two(self, *names: str) -> Any:
        """A group of such calls."""
        return group(self.s(name) for name in names)

    @property
    def end(self) -> Any:
        """A call that notes what it was called with."""
        return self._note.s(**self._more)

    def note(self, word: str) -> Any:
        """A call that notes a word, and takes no result."""
        return self._note.si(word, **self._more)


def tell(*args: Any) -> str:
    """Return the arguments as they came, as a text: what a task does."""
    return f"({' '.join(map(_told, args))})"


def _told(value: Any) -> str:
    return f"[{' '.join(map(_told, value))}]" if isinstance(value, list) else str(value)


def _chord_in_a_header(m: Makers) -> Any:
    return chord([chord([m.s("a"), m.s("b")], m.s("c")), m.s("d")], m.end)


def _groups_in_a_chain(m: Makers) -> Any:
    return m.s("a") | m.two("b", "c") | m.two("d", "e") | m.end


def _linked_chord(m: Makers) -> Any:
    canvas = chord([m.s("a")], m.s("b"))
    canvas.link(m.end)
    return canvas


SHAPES: dict[str, tuple[Callable[[Makers], Any], list[Any]]] = {
    "one task": (lambda m: m.note("a"), [("a",)]),
    "chain": (lambda m: m.s("a") | m.s("b") | m.end, [("((a) b)",)]),
    "immutable": (lambda m: m.s("a") | m.tell.si("b") | m.end, [("(b)",)]),
    "group": (lambda m: group(m.s("a") | m.end, m.s("b") | m.end), [("(a)",), ("(b)",)]),
    "chord": (lambda m: chord([m.s("a"), m.s("b")], m.end), [(["(a)", "(b)"],)]),
    "chord of one": (lambda m: chord([m.s("a")], m.end), [(["(a)"],)]),
    "group of one": (lambda m: group(m.s("a")) | m.end, [(["(a)"],)]),
    "group of one in a chain": (lambda m: chain(m.s("a"), group(m.s("b")), m.end), [("((a) b)",)]),
    "immutable body": (lambda m: chord([m.s("a"), m.s("b")], m.note("end")), [("end",)]),
    "group in a chain": (lambda m: m.s("a") | m.two("b", "c") | m.end, [(["((a) b)", "((a) c)"],)]),
    "groups in a chain": (_groups_in_a_chain, [(["([((a) b) ((a) c)] d)", "([((a) b) ((a) c)] e)"],)]),
    "group at the end": (lambda m: m.two("a", "b") | group(m.end, m.end), [(["(a)", "(b)"],)] * 2),
    "group that takes in part": (
        lambda m: m.two("a", "b") | group(m.note("x"), m.end),
        [(["(a)", "(b)"],), ("x",)],
    ),
    "group that takes nothing": (
        lambda m: m.two("a", "b") | group(m.note("x"), m.note("y")),
        [("x",), ("y",)],
    ),
    "chains in a group": (lambda m: group(m.s("a") | m.s("b"), m.s("c")) | m.end, [(["((a) b)", "(c)"],)]),
    "groups in a group": (lambda m: group(m.two("a", "b"), m.s("c")) | m.end, [(["(a)", "(b)", "(c)"],)]),
    "chord in a chain": (
        lambda m: m.s("a") | chord([m.s("b"), m.s("c")], m.s("d")) | m.end,
        [("([((a) b) ((a) c)] d)",)],
    ),
    "chord in a header": (_chord_in_a_header, [(["([(a) (b)] c)", "(d)"],)]),
    "chord as a body": (
        lambda m: chord([m.s("a"), m.s("b")], chord([m.s("c"), m.s("d")], m.end)),
        [(["([(a) (b)] c)", "([(a) (b)] d)"],)],
    ),
    "chain as a body": (lambda m: chord([m.s("a"), m.s("b")], m.s("c") | m.end), [("([(a) (b)] c)",)]),
    "chord without a header": (lambda m: chord([], m.end, app=m.app), [([],)]),
    "chord without a header in a chain": (lambda m: m.s("a") | chord([], m.end, app=m.app), [([],)]),
    "map": (lambda m: m.tell.map([1, 2]) | m.end, [(["(1)", "(2)"],)]),
    "starmap": (lambda m: m.tell.starmap([(1, 2), (3, 4)]) | m.end, [(["(1 2)", "(3 4)"],)]),
    "chunks": (
        lambda m: m.tell.chunks([(1, 2), (3, 4), (5, 6)], 2).group() | m.end,
        [([["(1 2)", "(3 4)"], ["(5 6)"]],)],
    ),
    "link": (lambda m: m.s("a").set(link=[m.s("b") | m.end]), [("((a) b)",)]),
    "links": (lambda m: m.s("a").set(link=[m.end, m.note("x")]), [("(a)",), ("x",)]),
    "link of a chain": (lambda m: (m.s("a") | m.s("b")).set(link=[m.end]), [("((a) b)",)]),
    "link of a chord": (_linked_chord, [("([(a)] b)",)]),
    "link in the middle": (lambda m: chain(m.s("a").set(link=[m.end]), m.s("b")), [("(a)",)]),
}
