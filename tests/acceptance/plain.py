"""Tasks that know nothing of celery-flows, for tests of what Celery makes of them beside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

from acceptance.making import seen, task, wait_for_file
from celery.exceptions import Reject, SoftTimeLimitExceeded

#: Acknowledged late, and never for what went wrong.
_BACK: Final[dict[str, Any]] = {
    "acks_late": True,
    "acks_on_timeout": False,
    "acks_on_failure_or_timeout": False,
    "reject_on_worker_lost": True,
}


def _begins(key: str) -> bool:
    """Say that the body runs; whether it does so for the first time."""
    seen("ran", key)
    try:
        Path(key).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _dies(key: str) -> str:
    if _begins(key):
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def _overruns(key: str) -> str:
    if _begins(key):
        wait_for_file("/never")
    return "in time"


@task()
def plain_dies(key: str) -> str:
    """Die the first time."""
    return _dies(key)


@task(acks_late=True)
def plain_dies_late(key: str) -> str:
    """As `plain_dies`, acknowledged late."""
    return _dies(key)


@task(**_BACK)
def plain_dies_back(key: str) -> str:
    """As `plain_dies`, with a message that comes back."""
    return _dies(key)


@task(time_limit=1)
def plain_overruns(key: str) -> str:
    """Overrun the hard time limit the first time."""
    return _overruns(key)


@task(time_limit=1, acks_late=True)
def plain_overruns_late(key: str) -> str:
    """As `plain_overruns`, acknowledged late."""
    return _overruns(key)


@task(soft_time_limit=1)
def plain_overruns_softly(key: str) -> str:
    """Overrun the soft time limit."""
    return _overruns(key)


@task(soft_time_limit=1)
def plain_cleans_up(key: str) -> str:
    """Overrun the soft time limit, and bear it."""
    try:
        return _overruns(key)
    except SoftTimeLimitExceeded:
        return "cleaned up"


@task(**_BACK)
def plain_fails_late(key: str) -> str:
    """Fail; the message is rejected."""
    _begins(key)
    raise ValueError("broken on purpose")


@task(acks_late=True)
def plain_puts_back(key: str) -> str:
    """Put the message back the first time."""
    if _begins(key):
        raise Reject("later", requeue=True)
    return "taken"


@task(bind=True, acks_late=True, max_retries=1)
def plain_retries(self: Any, key: str) -> str:
    """Ask for another attempt, the first time."""
    if _begins(key):
        raise self.retry(countdown=0)
    return "again"


@task()
def plain_waits(key: str, gate: str) -> str:
    """Run until the test opens the gate."""
    seen("ran", key)
    wait_for_file(gate)
    return "opened"


@task(acks_late=True)
def plain_waits_late(key: str, gate: str) -> str:
    """As `plain_waits`, acknowledged late."""
    return plain_waits(key, gate)
