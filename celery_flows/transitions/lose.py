"""Lose a job: its worker died. running -> ready (it is run again) or failed."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.codec import safe_text
from celery_flows.errors import WorkerLost
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store import batches, losses
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.cancel import end_if_cancelled
from celery_flows.transitions.finalize import advance, count_wrong, must_fail, report


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
    database: Database,
    job_id: str,
    token: str,
    policy: LossPolicy,
    reason: str,
    *,
    bears_again: bool | None = None,
) -> tuple[Lost | None, list[ReadyJob]]:
    """Give up a claim whose holder is gone.

    Args:
        bears_again: whether the job is known to bear another run, or to have spent its message; None: what was
            recorded when it was claimed says so.

    Returns:
        What became of the job (None: the claim was no longer there), and all jobs that became ready by it.
    """
    lost = database.transact(_lose, database.tables, job_id, token, policy, reason, bears_again)
    if lost is None or lost.is_again:
        return lost, [] if lost is None else lost.ready
    if lost.announces_id is not None:
        return lost, report(database, lost.announces_id)
    assert lost.batch_id is not None, "a job belongs to a batch or announces one"
    return lost, advance(database, lost.batch_id, went_wrong=True)


def _lose(
    connection: Connection,
    tables: Tables,
    job_id: str,
    token: str,
    policy: LossPolicy,
    reason: str,
    bears_again: bool | None,
) -> Lost | None:
    job = losses.running(connection, tables, job_id, token)
    if job is None:
        return None
    number = job.losses + 1
    if number < policy.max_losses and _runs_again(job, policy, bears_again):
        ready = losses.run_again(connection, tables, job_id, token, number)
        is_over = job.batch_id is not None and end_if_cancelled(connection, tables, job_id, job.batch_id)
        return Lost(job_id, not is_over, job.batch_id, job.announces_id, [] if is_over else ready)
    error = WorkerLost(job_id=job_id, losses=number, reason=safe_text(reason))
    has_ended = losses.fail(connection, tables, job_id, token, number, type(error).__name__, str(error))
    if has_ended and job.batch_id is not None:
        count_wrong(connection, tables, job.batch_id)
    return Lost(job_id, False, job.batch_id, job.announces_id, [])


def _runs_again(job: losses.RunningJob, policy: LossPolicy, bears_again: bool | None) -> bool:
    # Nobody but us decides about our own jobs; a late acknowledgement says that the task bears a second run.
    if job.kind != Kind.TASK or (job.is_late if bears_again is None else bears_again):
        return True
    return (job.on_loss or job.batch_on_loss or policy.on_loss) == "retry"


def accept_late(database: Database, job_id: str, token: str) -> bool:
    """Accept the success of a job that was given up, where nothing has followed from giving it up.

    That is: it waits to be run again and nobody has claimed it; or it failed as lost, its batch is
    unfinished, and would have the fate that it has without this failure too.
    """
    return database.transact(_accept_late, database.tables, job_id, token)


def _accept_late(connection: Connection, tables: Tables, job_id: str, token: str) -> bool:
    job = losses.given_up(connection, tables, job_id, token)
    if job is None:
        return False
    if job.state != JobState.FAILED:
        return losses.complete(connection, tables, job_id, token, job.state)
    batch = batches.standing(connection, tables, job.batch_id or "", "exclusive")
    if batch is None or batch.is_finished:
        return False
    with connection.begin_nested() as attempt:
        is_accepted = losses.complete(connection, tables, job_id, token, job.state)
        if is_accepted:
            count_wrong(connection, tables, batch.id, by=-1)
        if batch.state is BatchState.FAILED and not must_fail(connection, tables, batch):
            attempt.rollback()
            return False
    return is_accepted
