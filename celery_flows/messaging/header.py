"""What a message says of the job that it carries, in its header "flows"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from celery_flows.ids import new_id
from celery_flows.states import JobState
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob

HEADER: Final = "flows"

#: The option of a call that says how often it is tried again.
RETRIES: Final = "flows_retries"


@dataclass(frozen=True)
class Delivery:
    """One publish of a job's message, and, once a worker has it, one delivery of that message."""

    job_id: str
    #: The batch that the job belongs to; None for a callback.
    batch_id: str | None
    #: For a callback, the batch that it announces.
    announces_id: str | None
    #: Which publish of the job this is; an older one can't claim.
    number: int
    #: Given by the worker that received it; None on the way there.
    token: str | None = None
    #: The worker process that received it, whose lease its claim stands under.
    worker_id: str | None = None
    #: Whether the message is not the job's own, but one of the tasks that replaced it.
    is_part: bool = False
    #: Whether somebody needs what the job returns.
    keeps: bool = False
    #: Whether others waited for the job when it was published; more may do so since.
    blocks: bool = False
    #: How often the job is tried again when it raises, whatever its task says.
    retries: int = 0

    @classmethod
    def of(cls, job: ReadyJob, retries: int = 0) -> Delivery:
        """The delivery that publishing a job makes."""
        keeps, blocks = bool(job.keeps), bool(job.blocks)
        ids = (job.id, job.batch_id, job.announces_id)
        return cls(*ids, job.delivery, keeps=keeps, blocks=blocks, retries=retries)

    @classmethod
    def read(cls, headers: Any) -> Delivery | None:
        """Find a delivery in a message's headers; None for a task that is nobody's job."""
        found = headers.get(HEADER) if headers else None
        if not isinstance(found, dict):
            return None
        return cls(
            found["job"],
            found.get("batch"),
            found.get("announces"),
            found["delivery"],
            found.get("token"),
            found.get("worker"),
            found.get("part", False),
            found.get("keeps", False),
            found.get("blocks", False),
            found.get("retries", 0),
        )

    def write(self) -> dict[str, Any]:
        """The header, without what it does not need to say."""
        every = {
            "job": self.job_id,
            "batch": self.batch_id,
            "announces": self.announces_id,
            "delivery": self.number,
            "token": self.token,
            "worker": self.worker_id,
            "part": self.is_part or None,
            "keeps": self.keeps or None,
            "blocks": self.blocks or None,
            "retries": self.retries or None,
        }
        return {key: value for key, value in every.items() if value is not None}

    def ending(
        self, state: JobState, error_class: str | None = None, error: str | None = None, result: str | None = None
    ) -> Ending:
        """The end of the job by this delivery, for as long as that holds it."""
        return Ending(self.job_id, state, error_class, error, self.number, self.token, result, self.blocks)

    def received(self, worker_id: str | None = None) -> Delivery:
        """This delivery, named by a token of its own, as a worker process has it."""
        return replace(self, token=new_id(), worker_id=worker_id)
