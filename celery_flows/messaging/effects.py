"""The database transaction of a running job: it commits with the job's outcome, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from celery import _state

from celery_flows.messaging import data
from celery_flows.messaging.claims import Claim
from celery_flows.messaging.patience import persistently
from celery_flows.states import JobState
from celery_flows.store.database import Connection, is_database_error
from celery_flows.transitions.settle import Relayed, complete_within, is_complete

logger = logging.getLogger(__name__)

_ATTRIBUTE: Final = "flows_effects"


@contextmanager
def transaction(request: Any, claim: Claim) -> Iterator[Connection]:
    """Open the job's transaction, or go on in it; leaving the block does not end it, an error does."""
    opened = getattr(request, _ATTRIBUTE, None)
    if opened is None:
        opened = persistently(claim.runtime, claim.runtime.database.begin)
        setattr(request, _ATTRIBUTE, opened)
    try:
        yield opened.connection
    except BaseException:
        roll_back(request)
        raise


def is_needed(request: Any) -> bool:
    """Whether the job has a transaction open, or has changed its data."""
    return getattr(request, _ATTRIBUTE, None) is not None or data.is_changed(request)


def open_for(request: Any, claim: Claim) -> None:
    """Open the job's transaction, if it has none."""
    with transaction(request, claim):
        pass


def roll_back(request: Any) -> None:
    """Undo what the job wrote in its transaction, if it opened one, and to its data."""
    data.forget(request)
    opened = _take(request)
    if opened is not None:
        opened.roll_back()


def roll_back_current() -> None:
    """Undo what the running task's job wrote in its transaction, before its claim goes on to its next attempt.

    That must not wait for the task's end: on SQLite the job's own transaction would be in the way.
    """
    task = _state.get_current_worker_task()
    if task is not None:
        roll_back(task.request)


def commit(request: Any, claim: Claim, result: str | None) -> Relayed | None:
    """Commit what the job wrote, and its data, together with its outcome, and say what was let go by that.

    None where another has taken the job meanwhile, or where the database failed: then nothing is written.
    """
    opened = _take(request)
    delivery, tables = claim.delivery, claim.runtime.database.tables
    try:
        relayed = complete_within(opened.connection, tables, delivery.ending(JobState.COMPLETE, result=result))
        if relayed is not None:
            data.write(request, opened.connection, tables)
            opened.commit()
        else:
            opened.roll_back()
            logger.warning("Job %s was taken by another: what it wrote is rolled back.", delivery.job_id)
        return relayed
    except Exception as error:
        opened.roll_back()
        if not is_database_error(error):
            raise
        logger.warning("Job %s: its transaction could not be committed (%s).", delivery.job_id, error)
        is_ours = is_complete(claim.runtime.database, delivery.job_id, str(delivery.token))
        return Relayed([], is_left=True) if is_ours else None


def _take(request: Any) -> Any:
    opened = getattr(request, _ATTRIBUTE, None)
    setattr(request, _ATTRIBUTE, None)
    return opened
