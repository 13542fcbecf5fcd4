"""The claim that the running task holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from celery import _state

from celery_flows.messaging.header import Delivery
from celery_flows.messaging.runtime import Runtime
from celery_flows.transitions.grow import Grower

_ATTRIBUTE: Final = "flows_claim"


@dataclass(frozen=True)
class Claim:
    """A job that this process is running."""

    runtime: Runtime
    delivery: Delivery
    #: Which attempt this is, from 1.
    attempt: int


def hold(request: Any, claim: Claim) -> None:
    """Keep a claim with the request that it belongs to."""
    setattr(request, _ATTRIBUTE, claim)


def held_by(request: Any) -> Claim | None:
    """The claim of a request, or None where its task is nobody's job."""
    found: Claim | None = getattr(request, _ATTRIBUTE, None)
    return found


def grower_here(runtime: Runtime) -> Grower | None:
    """The job that runs here, as one that adds others to its batch; None where none does."""
    claim = current_claim()
    if claim is None or claim.runtime is not runtime or claim.delivery.batch_id is None:
        return None
    return Grower(claim.delivery.job_id, str(claim.delivery.token), claim.delivery.batch_id)


def current_claim() -> Claim | None:
    """The claim of the task that runs here, or None."""
    task = _state.get_current_worker_task()
    return held_by(task.request) if task is not None else None
