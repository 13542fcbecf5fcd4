"""The words for what a job or a batch is and where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class JobState(StrEnum):
    """Where a job stands. The last four are terminal."""

    WAITING = "waiting"
    READY = "ready"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class BatchState(StrEnum):
    """Where a batch stands. The last three are its fate."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Kind(StrEnum):
    """What a job row stands for."""

    #: A call of a Celery task.
    TASK = "task"
    #: A child batch, in its parent.
    BATCH = "batch"
    #: An open streaming block: it keeps its batch unfinished.
    BLOCK = "block"
    #: A callback of a batch, waiting for its event.
    CALLBACK = "callback"
    #: A call of ours that plans its flow: what it planned is enrolled with its outcome.
    PLAN = "plan"
    #: Where several jobs that wait for several others meet; it has no message.
    JOIN = "join"


class Event(StrEnum):
    """What a batch announces."""

    COMPLETE = "complete"
    FAILURE = "failure"
    SETTLED = "settled"


class Condition(StrEnum):
    """What end of one job another waits for."""

    #: That it returned.
    COMPLETE = "complete"
    #: That it failed.
    FAILURE = "failure"
    #: That it ended, whatever the outcome.
    SETTLED = "settled"
    #: That it failed, was cancelled, or never had its turn because something before it went wrong.
    MISSED = "missed"


class Takes(StrEnum):
    """How results of earlier jobs come before a job's arguments."""

    #: The result of one.
    ONE = "one"
    #: The results of several, as one list.
    LIST = "list"
    #: The same, where they are among its arguments by now.
    HAD_ONE = "had-one"
    HAD_LIST = "had-list"


#: What a batch is: itself, or a flow.
BATCH_KINDS: Final = ("batch", "sequence", "orchestration", "workflow", "batching", "canvas")

#: Conditions of a branch that is there for when something goes wrong: it is well if nobody needs it.
BRANCHES: Final = (Condition.FAILURE, Condition.MISSED)

#: Conditions that users can ask for.
WHEN: Final = (Condition.COMPLETE, Condition.FAILURE, Condition.SETTLED)

#: States in which a job's one outcome is written.
TERMINAL: Final = (JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)

#: States from which a delivered message may be claimed.
CLAIMABLE: Final = (JobState.READY, JobState.QUEUED, JobState.RETRYING)

#: What is published: it has a message of its own.
MESSAGES: Final = (Kind.TASK, Kind.PLAN, Kind.CALLBACK)

#: Outcomes that count against a batch's tolerance.
WRONG: Final = (JobState.FAILED, JobState.CANCELLED)

#: Other names under which an event may be asked for.
EVENT_ALIASES: Final = {"success": Event.COMPLETE}


def one_of(name: str, given: object, allowed: Iterable[str]) -> str:
    """See that a word is one of those that are allowed.

    Raises:
        ValueError: it is not; it says which are.
    """
    words = [str(word) for word in allowed]
    if given not in words:
        raise ValueError(f"{name} is {given!r}, but must be one of {', '.join(map(repr, words))}")
    return str(given)
