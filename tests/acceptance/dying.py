"""Tasks whose processes die, for tests of what becomes of their jobs."""

from __future__ import annotations

import os
import signal
from typing import Any

from acceptance.jobs import gated, killed
from acceptance.making import seen, task, wait_for_file
from celery.exceptions import SoftTimeLimitExceeded


@task(bind=True, on_loss="retry")
def killed_again(self: Any, key: str) -> None:
    """As `killed`, of a task that bears to run twice."""
    killed(self, key)


@task(bind=True, acks_late=True)
def killed_acked(self: Any, key: str) -> None:
    """As `killed`: acknowledged late, which Celery does when the process has died, too."""
    killed(self, key)


@task(bind=True, on_loss="retry")
def poison(self: Any, key: str) -> None:
    """Die every time."""
    seen("began", key, self.job.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@task(acks_late=True)
def gated_late(key: str, gate: str) -> None:
    """As `gated`, with a message that is acknowledged when it has run."""
    gated(key, gate)


@task(on_loss="retry")
def gated_again(key: str, gate: str) -> None:
    """As `gated`, of a task that bears to run twice."""
    gated(key, gate)


@task(soft_time_limit=1)
def limited_softly(catches: bool) -> None:
    """Overrun the soft time limit, and bear it or not."""
    try:
        wait_for_file("/never")
    except SoftTimeLimitExceeded:
        if not catches:
            raise
