"""Add a callback to a batch: it waits for its event."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.states import BatchState, Event, JobState, Kind
from celery_flows.store import callbacks, jobs
from celery_flows.store.database import Connection
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.admit import hold_unfinished


class NewCallback(NamedTuple):
    """A callback to add; texts are as they are stored."""

    id: str
    announces_id: str
    event: Event
    task: str
    args: str
    kwargs: str
    options: str


def listen(connection: Connection, tables: Tables, callback: NewCallback) -> list[ReadyJob]:
    """Write a callback, and make it ready where its event has come already.

    Raises:
        BatchNotFound: there is no such batch.
        BatchFinished: it is finished, so no event will come.
    """
    jobs.add_one(connection, tables, kind=Kind.CALLBACK, state=JobState.WAITING, **callback._asdict())
    batch = hold_unfinished(connection, tables, callback.announces_id, "shared")
    if batch.round > 1:
        callbacks.join_round(connection, tables, callback.id, batch.round)
    if batch.state is not BatchState.FAILED or callback.event is not Event.FAILURE:
        return []
    waiting = callbacks.all_waiting(connection, tables, callback.announces_id)
    return callbacks.arm(connection, tables, callback.announces_id, waiting, [callback.event])
