"""Running our commands as people do: as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from click.testing import CliRunner

from celery_flows.cli import flows, main

BIN = Path(sys.executable).parent

#: What is set on the machine that runs the tests means nothing to the commands.
OURS = ("CELERY_FLOWS_DATABASE_URL", "CELERY_BROKER_URL")


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def run(*words: str | Path, cwd: Path | None = None, timeout: float = 60, **environment: str) -> Done:
    """Run `celery-flows ...` or `celery ...`."""
    inherited = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [BIN / str(words[0]), *map(str, words[1:])],
        cwd=cwd,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def here(*words: str, url: str | None = None, app: Any = None) -> Done:
    """Run a command in this process, which takes a hundredth of the time: on a database, or for an app."""
    environment = dict.fromkeys((*OURS, "NO_COLOR"))
    if app is not None:
        done = CliRunner().invoke(flows, words, obj=SimpleNamespace(app=app), env=environment)
    else:
        given = [] if url is None else ["--database-url", url]
        done = CliRunner().invoke(main, [*given, *words], env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def records(done: Done) -> list[Any]:
    """What a command said with --json, having ended well: an object per line."""
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]
