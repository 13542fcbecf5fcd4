"""Programs of examples/ and docs/, run the way their readers run them: as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

#: Seconds within which a program must have done what is waited for.
PATIENCE: Final = 60


class Project:
    """A program's folder, where it writes, its broker and its database."""

    def __init__(self, folder: Path, scratch: Path, broker_url: str, database_url: str) -> None:
        self.scratch = scratch
        services = {"CELERY_BROKER_URL": broker_url, "CELERY_FLOWS_DATABASE_URL": database_url}
        self.environment = {**os.environ, **services, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}

    def run(self, *words: str) -> str:
        """Run `python ...` to its end, which must be a good one; return what it printed."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.scratch,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def worker(self, app: str, *words: str) -> Iterator[None]:
        """Run a worker until the end of the block; it must start well and stop well."""
        log = self.scratch / "worker.log"
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel", "info", *words]
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.scratch, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        try:
            wait_until(lambda: " ready." in log.read_text() or process.poll() is not None, log.read_text)
            assert process.poll() is None, log.read_text()
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, log.read_text()
        finally:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_so: Callable[[], bool], explain: Callable[[], str] = str) -> None:
    """Look again and again, and fail after a while."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"it did not come about {explain()}"
        time.sleep(0.05)
