"""The database transaction of a running job: it commits with the job's outcome, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from celery import _state

from celery_flows.messaging import data
from celery_flows.messaging.claims import Claim
from celery_flows.messaging.patience import persistently
from celery_flows.store.database import Connection, is_database_error
from celery_flows.transitions.settle import complete_within, is_complete

logger = logging.getLogger(__name__)

_ATTRIBUTE: Final = "flows_effects"


@contextmanager
def transaction(request: Any, claim: Claim) -> Iterator[Connection]:
    """Open the job's transaction, or go on in it; leaving the block does not end it, an error does."""
    connection = getattr(request, _ATTRIBUTE, None)
    if connection is None:
        connection = persistently(claim.runtime, claim.runtime.database.begin)
        setattr(request, _ATTRIBUTE, connection)
    try:
        yield connection
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
    connection = _take(request)
    if connection is not None:
        # A connection that is lost has rolled back by itself.
        with suppress(Exception):
            connection.rollback()
        connection.close()


def roll_back_current() -> None:
    """Undo what the running task's job wrote in its transaction, before its claim goes on to its next attempt.

    That must not wait for the task's end: on SQLite the job's own transaction would be in the way.
    """
    task = _state.get_current_worker_task()
    if task is not None:
        roll_back(task.request)


def commit(request: Any, claim: Claim, result: str | None) -> bool:
    """Commit what the job wrote, and its data, together with its outcome; say whether that was done.

    It is not where another has taken the job meanwhile, or where the database failed: then nothing is written.
    """
    connection = _take(request)
    delivery, tables = claim.delivery, claim.runtime.database.tables
    fenced = (delivery.job_id, delivery.number, str(delivery.token))
    try:
        with connection:
            if complete_within(connection, tables, *fenced, result):
                data.write(request, connection, tables)
                connection.commit()
                return True
            connection.rollback()
            logger.warning("Job %s was taken by another: what it wrote is rolled back.", delivery.job_id)
            return False
    except Exception as error:
        if not is_database_error(error):
            raise
        logger.warning("Job %s: its transaction could not be committed (%s).", delivery.job_id, error)
        return is_complete(claim.runtime.database, delivery.job_id, str(delivery.token))


def _take(request: Any) -> Any:
    connection = getattr(request, _ATTRIBUTE, None)
    setattr(request, _ATTRIBUTE, None)
    return connection
