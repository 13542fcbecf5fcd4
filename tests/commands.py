"""Running our commands as people do: as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

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
