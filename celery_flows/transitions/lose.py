"""Lose a job: its worker died. running -> ready (it is run again) or failed."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.codec import safe_text
from celery_flows.errors import WorkerLost
from celery_flows.states import JobState, Kind
from celery_flows.store import batches, losses
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance, count_wrong, report


class LossPolicy(NamedTuple):
    """What the settings say of lost jobs."""

    #: "fail" or "retry", where neither the task nor the batch says otherwise.
    on_loss: str
    #: After so many losses of any kind a job fails.
    max_losses: int


class Lost(NamedTuple):
    """What became of a lost job."""

    job_id: str
    #: Whether it is run again.
    is_again: bool
    batch_id: str | None
    announces_id: str | None
    #: The job itself, if it is run again.
    ready: list[ReadyJob]


def lose(
    database: Database, job_id: str, token: str, policy: LossPolicy, reason: str
) -> tuple[Lost | None, list[ReadyJob]]:
    """Give up a claim whose holder is gone.

    Returns:
        What became of the job (None: the claim was no longer there), and all jobs that became ready by it.
    """
    lost = database.transact(_lose, database.tables, job_id, token, policy, reason)
    if lost is None or lost.is_again:
        return lost, [] if lost is None else lost.ready
    if lost.announces_id is not None:
        return lost, report(database, lost.announces_id)
    assert lost.batch_id is not None, "a job belongs to a batch or announces one"
    return lost, advance(database, lost.batch_id, went_wrong=True)


def _lose(
    connection: Connection, tables: Tables, job_id: str, token: str, policy: LossPolicy, reason: str
) -> Lost | None:
    job = losses.running(connection, tables, job_id, token)
    if job is None:
        return None
    number = job.losses + 1
    if number < policy.max_losses and _runs_again(job, policy):
        ready = losses.run_again(connection, tables, job_id, number)
        return Lost(job_id, True, job.batch_id, job.announces_id, ready)
    error = WorkerLost(job_id=job_id, losses=number, reason=safe_text(reason))
    losses.fail(connection, tables, job_id, number, type(error).__name__, str(error))
    if job.batch_id is not None:
        count_wrong(connection, tables, job.batch_id)
    return Lost(job_id, False, job.batch_id, job.announces_id, [])


def _runs_again(job: losses.RunningJob, policy: LossPolicy) -> bool:
    # Nobody but us decides about our own jobs; a late acknowledgement says that the task bears a second run.
    if job.kind != Kind.TASK or job.is_late:
        return True
    return (job.on_loss or job.batch_on_loss or policy.on_loss) == "retry"


def accept_late(database: Database, job_id: str, token: str) -> bool:
    """Accept the success of a job that was given up, where nothing has followed from giving it up.

    That is: it waits to be run again and nobody has claimed it, or it failed as lost, and its batch is
    unfinished and undecided.
    """
    return database.transact(_accept_late, database.tables, job_id, token)


def _accept_late(connection: Connection, tables: Tables, job_id: str, token: str) -> bool:
    job = losses.given_up(connection, tables, job_id, token)
    if job is None:
        return False
    if job.state == JobState.FAILED:
        batch = batches.standing(connection, tables, job.batch_id or "", "exclusive")
        if batch is None or batch.is_finished or not batch.is_undecided:
            return False
        count_wrong(connection, tables, batch.id, by=-1)
    return losses.complete(connection, tables, job_id, token)
