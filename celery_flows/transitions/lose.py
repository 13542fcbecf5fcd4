"""Lose a job: its worker died. running, or delivered and not claimed -> ready (it is run again) or failed."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.codec import safe_text
from celery_flows.errors import WorkerLost
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store import batches, edges, losses
from celery_flows.store.database import Connection, Database
from celery_flows.store.losses import Holding
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.cancel import end_if_cancelled
from celery_flows.transitions.finalize import advance, must_fail, report
from celery_flows.transitions.release import release
from celery_flows.transitions.wrong import count_wrong


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
    delivery: int | None = None,
) -> tuple[Lost | None, list[ReadyJob]]:
    """Give up a job whose holder is gone.

    Args:
        token: of its claim.
        delivery: the number of the message that is gone with the holder, where that is known. Then a job whose
            claim had yet to come is given up as well: it has not begun, so it is run again.
        bears_again: whether the job is known to bear another run, or to have spent its message; None: what was
            recorded when it was claimed says so.

    Returns:
        What became of the job (None: it was no longer held so), and all jobs that became ready by it.
    """
    holding = Holding(job_id, token, delivery)
    lost = database.transact(_lose, database.tables, holding, policy, reason, bears_again)
    if lost is None or lost.is_again:
        return lost, [] if lost is None else lost.ready
    if lost.announces_id is not None:
        return lost, report(database, lost.announces_id)
    assert lost.batch_id is not None, "a job belongs to a batch or announces one"
    ready = release(database, job_id).ready
    return lost, [*ready, *advance(database, lost.batch_id, went_wrong=True)]


def _lose(
    connection: Connection,
    tables: Tables,
    holding: Holding,
    policy: LossPolicy,
    reason: str,
    bears_again: bool | None,
) -> Lost | None:
    job = losses.held(connection, tables, holding)
    if job is None:
        return None
    job_id, number = holding.job_id, job.losses + 1
    if number < policy.max_losses and _runs_again(job, policy, bears_again):
        ready = losses.run_again(connection, tables, holding, number)
        is_over = job.batch_id is not None and end_if_cancelled(connection, tables, job_id, job.batch_id)
        return Lost(job_id, not is_over, job.batch_id, job.announces_id, [] if is_over else ready)
    error = WorkerLost(job_id=job_id, losses=number, reason=safe_text(reason))
    has_ended = losses.fail(connection, tables, holding, number, type(error).__name__, str(error))
    if has_ended and job.batch_id is not None:
        count_wrong(connection, tables, job.batch_id)
    return Lost(job_id, False, job.batch_id, job.announces_id, [])


def _runs_again(job: losses.HeldJob, policy: LossPolicy, bears_again: bool | None) -> bool:
    # Nobody but us decides about our own jobs; a late acknowledgement says that the task bears a second run.
    if not job.is_claimed or job.kind != Kind.TASK or (job.is_late if bears_again is None else bears_again):
        return True
    return (job.on_loss or job.batch_on_loss or policy.on_loss) == "retry"


def accept_late(database: Database, job_id: str, token: str, result: str | None = None) -> bool:
    """Accept the success of a job that was given up, where nothing has followed from giving it up.

    That is: it waits to be run again and nobody has claimed it; or it failed as lost, nothing that waited for
    it has moved, its batch is unfinished, and would have the fate that it has without this failure too.
    """
    return database.transact(_accept_late, database.tables, job_id, token, result)


def _accept_late(connection: Connection, tables: Tables, job_id: str, token: str, result: str | None) -> bool:
    job = losses.given_up(connection, tables, job_id, token)
    if job is None:
        return False
    if job.state != JobState.FAILED:
        return losses.complete(connection, tables, job_id, token, job.state, result)
    batch = batches.standing(connection, tables, job.batch_id or "", "exclusive")
    if batch is None or batch.is_finished or (job.blocks and not edges.nothing_moved(connection, tables, job_id)):
        return False
    with connection.begin_nested() as attempt:
        is_accepted = losses.complete(connection, tables, job_id, token, job.state, result)
        if is_accepted:
            count_wrong(connection, tables, batch.id, by=-1)
        if batch.state is BatchState.FAILED and not must_fail(connection, tables, batch):
            attempt.rollback()
            return False
    return is_accepted
