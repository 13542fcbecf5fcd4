"""Acknowledgements and time limits of tasks that are nobody's job: with celery-flows as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from acceptance.running import Project, wait_for
from redis import Redis

#: How often each task runs, and what Celery then says of it.
ENDS: Final[dict[str, tuple[int, str]]] = {
    "plain_dies": (1, "FAILURE: WorkerLostError"),
    "plain_dies_late": (1, "FAILURE: WorkerLostError"),
    "plain_dies_back": (2, "SUCCESS: survived"),
    "plain_overruns": (1, "FAILURE: TimeLimitExceeded"),
    "plain_overruns_late": (1, "FAILURE: TimeLimitExceeded"),
    "plain_overruns_softly": (1, "FAILURE: SoftTimeLimitExceeded"),
    "plain_cleans_up": (1, "SUCCESS: cleaned up"),
    "plain_fails_late": (1, "FAILURE: ValueError"),
    "plain_puts_back": (2, "SUCCESS: taken"),
    "plain_retries": (2, "SUCCESS: again"),
}

#: Whether the message of a task that runs is acknowledged already.
WAITS: Final = {"plain_waits": True, "plain_waits_late": False}

#: How many messages wait for their acknowledgement, while a task runs and when the worker has stopped.
Unacknowledged = tuple[int, int]


class Seen(NamedTuple):
    """What was seen of one worker and its tasks."""

    #: Of each task how often it ran, what its result says, and the signals that Celery sent.
    ends: dict[str, tuple[int, str, list[str]]]
    unacknowledged: dict[str, Unacknowledged]


def messages(project: Project, redis_url: str, task_id: str | None = None) -> int:
    """How many messages a worker has and has not acknowledged: Celery's transport for Redis keeps them there.

    Args:
        task_id: only that task's; None: all of the project's.
    """
    with Redis.from_url(redis_url, decode_responses=True) as client:
        found = client.hvals("unacked")
        assert isinstance(found, list)
        kept = [(message["headers"]["id"], queue) for message, _, queue in map(json.loads, found)]
        return sum(queue == project.app.conf.task_default_queue and task_id in (None, id_) for id_, queue in kept)


def is_steady(looks: list[int], number: int) -> bool:
    """Whether it has been this number for a while: the transport writes a message down as the task begins."""
    return len(looks) >= 20 and set(looks[-20:]) == {number}


def watch(project: Project, redis_url: str, scratch: Path, *, installed: bool) -> Seen:
    """Let a worker of its own run every task."""
    during: dict[str, int] = {}

    def here(task_id: str | None = None) -> int:
        return messages(project, redis_url, task_id)

    with project.worker("prefork", 4, patches="note_signals", installed=installed):
        results = {task: getattr(project, task).delay(str(scratch / task)) for task in ENDS}
        values = {task: result.get(timeout=60, propagate=False) for task, result in results.items()}
        for task in WAITS:
            gate = scratch / f"{task}.gate"
            waits = getattr(project, task).delay(task, str(gate))
            wait_for(lambda: project.seen("ran", task))  # noqa: B023 # the loop waits for it
            # Others may be on their way back into the queue.
            looks: list[int] = []
            wait_for(lambda: looks.append(here(waits.id)) or is_steady(looks, int(not WAITS[task])), here)  # noqa: B023
            during[task] = looks[-1]
            gate.touch()
            waits.get(timeout=60)
    # The worker has ended, so all of its signals are written.
    ends = {
        task: (
            len(project.seen("ran", str(scratch / task))),
            f"{results[task].state}: {_told(values[task])}",
            sorted(name for (name,) in project.seen("signal", results[task].id)),
        )
        for task in ENDS
    }
    return Seen(ends, {task: (number, here()) for task, number in during.items()})


def _told(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Exception) else str(value)


@pytest.fixture(scope="module")
def seen(
    make_project: Callable[..., Project], redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Seen, Seen]:
    """What was seen of a worker without celery-flows, and of one with it."""
    project = make_project("redis", "postgresql", result_backend=redis_url)
    return (
        watch(project, redis_url, tmp_path_factory.mktemp("without"), installed=False),
        watch(project, redis_url, tmp_path_factory.mktemp("installed"), installed=True),
    )


@pytest.mark.parametrize("task", ENDS)
def test_a_task_runs_and_ends_as_ever(seen: tuple[Seen, Seen], task: str) -> None:
    """Killed, over its limits, put back, retried: as often, with the same result and the same signals."""
    without, installed = seen
    assert installed.ends[task][:2] == ENDS[task]
    assert installed.ends[task] == without.ends[task]


@pytest.mark.parametrize("task", WAITS)
def test_a_message_is_acknowledged_as_ever(seen: tuple[Seen, Seen], task: str) -> None:
    """Before the task runs, or after; and all are in the end."""
    for one in seen:
        assert one.unacknowledged[task] == (int(not WAITS[task]), 0)
