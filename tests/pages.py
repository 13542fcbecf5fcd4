"""Run the Python blocks of a page of the documentation, in order, as one program: python pages.py PAGE.

The broker is in memory, and a worker runs in a thread. A block that is followed by one marked `output` must
print exactly that. A block with a caption is a file, which later blocks may import.
"""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

_FENCE = re.compile(
    r"^(?P<skip>% not run: .+\n)?```(?:\{code-block\} )?(?P<language>\w+)\n(?P<options>(?::\w+:.*\n)*)\n?"
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_CAPTION = re.compile(r":caption: (.+)\n")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    line: int
    caption: str | None
    is_skipped: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page that have a language."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        caption = _CAPTION.search(match["options"])
        line = text.count("\n", 0, match.start("code"))
        name = caption[1] if caption else None
        found.append(Block(match["language"], match["code"], line, name, bool(match["skip"])))
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


def run(page: Path) -> None:
    """Run a page."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for block, expected in programs(page):
        if block.caption is not None:
            Path(block.caption).write_text(block.code)
        # The empty lines make the numbers in a traceback those of the page.
        code = compile("\n" * block.line + block.code, str(page), "exec")
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(code, namespace)
        said = printed.getvalue()
        assert expected is None or said == expected, f"{page}:{block.line}: printed {said!r}, not {expected!r}"


def main(page: Path) -> None:
    """Run a page, with a worker for the shop."""
    from celery.contrib.testing.worker import start_worker
    from shop import app

    app.conf.broker_transport_options = {"polling_interval": 0.01}
    app.loader.import_module("celery.contrib.testing.tasks")
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        app.set_default()
        run(page)
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
