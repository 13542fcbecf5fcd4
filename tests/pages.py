"""Run the Python blocks of a page of the documentation, in order, as one program: python pages.py PAGE.

The broker is in memory, and a worker runs in a thread. A block that is followed by one marked `output` must
print exactly that.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(
    r"^(?P<skip>% not run: [^\n]+\n)?```(?P<language>\w+)\n"
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    line: int
    is_skipped: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page that have a language."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(match["language"], match["code"], line, bool(match["skip"])))
    return found


def programs(page: Path) -> list[tuple[Block, str | None]]:
    """The Python blocks to run, each with the output that it must have, if the page says one."""
    every = blocks(page)
    following = [*every, None][1:]
    return [
        (block, after.code if after is not None and after.language == "output" else None)
        for block, after in zip(every, following, strict=True)
        if block.language == "python" and not block.is_skipped
    ]


class Said:
    """What a page prints, apart from what the worker's thread prints at the same time."""

    def __init__(self) -> None:
        self._page = threading.get_ident()
        self._text = io.StringIO()

    def print(self, *words: Any, **options: Any) -> None:
        """Print, as the page's blocks know it."""
        print(*words, **options, file=self._text if threading.get_ident() == self._page else sys.stdout)

    def take(self) -> str:
        """What the page has printed since the last time."""
        text = self._text.getvalue()
        self._text = io.StringIO()
        return text


def run(page: Path, refresh: Callable[[], None]) -> None:
    """Run a page; `refresh` is called after each block, for the tasks that it defined."""
    said = Said()
    namespace: dict[str, Any] = {"__name__": "page", "print": said.print}
    for block, expected in programs(page):
        # The empty lines make the numbers in a traceback those of the page.
        exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)
        refresh()
        printed = said.take()
        assert expected in (None, printed), f"{page}:{block.line}: printed {printed!r}, not {expected!r}"


def main(page: Path) -> None:
    """Run a page, with a worker for the shop."""
    from celery.contrib.testing.worker import start_worker
    from shop import app

    app.conf.broker_transport_options = {"polling_interval": 0.01}
    app.loader.import_module("celery.contrib.testing.tasks")
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR") as worker:
        app.set_default()
        run(page, worker.consumer.update_strategies)
        sys.stdout.flush()
        # Stopping the worker takes seconds, and proves nothing about the page.
        os._exit(0)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
