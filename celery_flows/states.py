"""The words for what a job or a batch is and where it stands."""

from __future__ import annotations

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


class Event(StrEnum):
    """What a batch announces."""

    COMPLETE = "complete"
    FAILURE = "failure"
    SETTLED = "settled"


#: States in which a job's one outcome is written.
TERMINAL: Final = (JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)

#: States from which a delivered message may be claimed.
CLAIMABLE: Final = (JobState.READY, JobState.QUEUED, JobState.RETRYING)

#: Outcomes that count against a batch's tolerance.
WRONG: Final = (JobState.FAILED, JobState.CANCELLED)

#: Other names under which an event may be asked for.
EVENT_ALIASES: Final = {"success": Event.COMPLETE}
