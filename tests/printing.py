"""What IPython does with things at a prompt, as far as they take part: a printer that breaks groups into lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Printer:
    """The part of IPython's `RepresentationPrinter` that `_repr_pretty_` may use."""

    def __init__(self, *, breaks: bool = False) -> None:
        """Begin.

        Args:
            breaks: whether the line is too short for what is printed.
        """
        self._breaks = breaks
        self._indent = 0
        self.said = ""

    def text(self, words: str) -> None:
        """Print words, which have no line's end in them."""
        assert "\n" not in words, "IPython would lose count of its columns"
        self.said += words

    def breakable(self, sep: str = " ") -> None:
        """Print a space, or begin a line."""
        self.said += "\n" + " " * self._indent if self._breaks else sep

    def break_(self) -> None:
        """Begin a line."""
        self.said += "\n" + " " * self._indent

    @contextmanager
    def group(self, indent: int = 0, before: str = "", after: str = "") -> Iterator[None]:
        """Print what belongs together."""
        self.text(before)
        self._indent += indent
        yield
        self._indent -= indent
        self.text(after)

    def pretty(self, one: Any) -> None:
        """Print a thing, of lists each part in a group."""
        if isinstance(one, list):
            with self.group(1, "[", "]"):
                for number, part in enumerate(one):
                    if number:
                        self.text(",")
                        self.breakable()
                    self.pretty(part)
        else:
            one._repr_pretty_(self, False)


def pretty(one: Any, *, breaks: bool = False) -> str:
    """What IPython prints."""
    printer = Printer(breaks=breaks)
    printer.pretty(one)
    return printer.said
