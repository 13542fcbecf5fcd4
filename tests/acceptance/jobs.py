"""The ordinary jobs of acceptance tests."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from acceptance.making import seen, task, wait_for_file
from celery import chain, chord, group
from celery.exceptions import Ignore, Reject

from celery_flows import current_job

# ------------------------------------------------------------------ what callbacks do


@task()
def announce(batch_id: str, event: str) -> None:
    """A callback that says which event of which batch it saw."""
    job = current_job()
    assert job is not None
    assert job.batch.id == batch_id
    seen("announced", batch_id, event, job.attempt, job.batch.status, dict(job.batch.progress))


# ------------------------------------------------------------------ jobs of a crowd


@task()
def add(x: int, y: int) -> int:
    """Succeed."""
    return x + y


@task(bind=True, max_retries=5)
def retried(self: Any, times: int) -> int:
    """Succeed after so many retries, asked for by hand."""
    if self.request.retries < times:
        raise self.retry(countdown=0, exc=ValueError("not yet"))
    return times


@task(bind=True, autoretry_for=(KeyError,), default_retry_delay=0, max_retries=5)
def autoretried(self: Any, times: int) -> int:
    """Succeed after so many retries, asked for by the task's options."""
    if self.request.retries < times:
        raise KeyError("not yet")
    return times


@task()
def broken() -> None:
    """Fail."""
    raise ValueError("broken on purpose")


# ------------------------------------------------------------------ jobs for each ending


@task(bind=True)
def once(self: Any, key: str) -> None:
    """Say that the body ran."""
    seen("ran", key, self.job.attempt if self.job else None)


@task()
def ignored() -> None:
    """Say that the result does not matter."""
    raise Ignore


@task(bind=True, max_retries=1)
def exhausted(self: Any) -> None:
    """Ask for a retry once too often."""
    raise self.retry(countdown=0, exc=ValueError("no retry is left"))


@task()
def rejected() -> None:
    """Refuse the message."""
    raise Reject("not wanted", requeue=False)


@task(bind=True)
def back_early(self: Any, key: str) -> None:
    """Put the message back twice, acknowledged as it is."""
    seen("ran", key, self.job.attempt)
    if self.job.attempt < 3:
        raise Reject("later", requeue=True)


@task(bind=True, acks_late=True)
def back_late(self: Any, key: str) -> None:
    """Put the message back twice, before it is acknowledged."""
    back_early(self, key)


@task(bind=True)
def replaced(self: Any, shape: str, key: str, how: str = "well") -> Any:
    """Be replaced by a task, or a canvas with a part that ends well or not."""
    last = self.app.signature("jobs.part", (key, "last"), immutable=True)
    part = self.app.signature("jobs.part", (key, how), immutable=True)
    if how == "unsent":
        last = self.app.signature("jobs.part", (object(), "last"), immutable=True)
    shapes = {
        "task": lambda: part,
        "chain": lambda: chain(part, last),
        "group": lambda: group(part, last, app=self.app),
        "chord": lambda: chord([part, last], last.clone(), app=self.app),
    }
    return self.replace(shapes[shape]())


@task(bind=True, max_retries=2)
def part(self: Any, key: str, how: str) -> None:
    """A part of a replacement."""
    if how == "badly":
        raise ValueError("a part failed")
    if how == "again" and not self.request.retries:
        raise self.retry(countdown=0)
    if how == "replaced":
        self.replace(self.app.signature("jobs.part", (key, "badly"), immutable=True))
    seen("part", key, how)


@task()
def endless(key: str) -> None:
    """Run until stopped."""
    seen("began", key)
    wait_for_file("/never")


@task()
def gated(key: str, gate: str) -> None:
    """Run until the test opens the gate."""
    seen("began", key)
    wait_for_file(gate)
    seen("ran", key)


@task(bind=True)
def killed(self: Any, key: str) -> None:
    """Die the first time, as if out of memory."""
    seen("began", key, self.job.attempt)
    if self.job.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@task(bind=True, acks_late=True, reject_on_worker_lost=True)
def killed_late(self: Any, key: str) -> None:
    """As `killed`, with the message not yet acknowledged."""
    killed(self, key)


@task(bind=True, retry_on_worker_lost=True, default_retry_delay=0)
def killed_retried(self: Any, key: str) -> None:
    """As `killed`, with Celery's own retry."""
    killed(self, key)


@task(bind=True, time_limit=1)
def limited(self: Any, key: str) -> None:
    """Overrun the hard time limit the first time."""
    seen("began", key, self.job.attempt)
    if self.job.attempt == 1:
        wait_for_file("/never")


@task(bind=True, time_limit=1, acks_late=True, acks_on_timeout=False, acks_on_failure_or_timeout=False)
def limited_late(self: Any, key: str) -> None:
    """As `limited`, with the message brought back."""
    limited(self, key)


@task()
def leaves() -> None:
    """Leave the process."""
    sys.exit(3)


@task(bind=True, max_retries=3)
def both(self: Any, key: str) -> None:
    """Ask for a retry and return all the same."""
    seen("ran", key, self.job.attempt)
    if self.job.attempt == 1:
        self.retry(countdown=0, throw=False)


@task()
def greedy() -> None:
    """Run out of memory."""
    raise MemoryError("too much")


# ------------------------------------------------------------------ tasks that are nobody's job


@task()
def total(numbers: list[int]) -> int:
    """Add up."""
    return sum(numbers)


@task(bind=True)
def pid(self: Any) -> int:
    """Say in which process it runs."""
    return os.getpid()
