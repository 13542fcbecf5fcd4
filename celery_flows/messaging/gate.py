"""A worker's way in and out of a job: claim before the body runs, settle after it."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final

from celery import states
from celery.exceptions import Ignore

from celery_flows.codec import safe_text
from celery_flows.errors import FinalError, FlowsError
from celery_flows.messaging import data, effects
from celery_flows.messaging.attempt import publish_next
from celery_flows.messaging.call import encode_result
from celery_flows.messaging.claims import Claim, held_by, hold
from celery_flows.messaging.given import ON_LOSS, task_on_loss
from celery_flows.messaging.header import Delivery
from celery_flows.messaging.patience import LONGEST_PAUSE, persistently
from celery_flows.messaging.runtime import Runtime, attached_to
from celery_flows.states import JobState
from celery_flows.transitions.claim import Holder, claim, may_claim_later
from celery_flows.transitions.lose import lose
from celery_flows.transitions.requeue import requeue
from celery_flows.transitions.settle import follow, settle

logger = logging.getLogger(__name__)

#: Longest pause before a job is tried again because its plan says so, in seconds; they double from one.
LONGEST_RETRY_PAUSE: Final = 600


def enter(task: Any, delivery: Delivery) -> None:
    """Claim the job for this delivery, or let the message go.

    Raises:
        Ignore: the message is a duplicate or out of date; Celery acknowledges and forgets it.
        InvalidSetting: the task's own on_loss is none, and who called it did not know.
    """
    runtime = attached_to(task.app)
    if runtime is None or delivery.is_part:
        return
    if delivery.token is None:
        delivery = delivery.received()
    attempt = _claim_with_lease(runtime, task, delivery)
    if attempt is None:
        logger.info(
            "Job %s: delivery %d is a duplicate or out of date, so it is dropped.",
            delivery.job_id,
            delivery.number,
        )
        raise Ignore(f"job {delivery.job_id}: delivery {delivery.number} may not claim it")
    hold(task.request, Claim(runtime, delivery, attempt))
    # Now that the job is claimed, it fails by this.
    task_on_loss(task)


def _claim_with_lease(runtime: Runtime, task: Any, delivery: Delivery) -> int | None:
    """Claim, and where only this worker's lease stands against it, wait until it is renewed."""
    holder = holder_of(runtime, task, delivery)
    asked = (delivery.job_id, delivery.number)
    pause = 0.1
    while True:
        attempt = persistently(runtime, lambda: claim(runtime.database, *asked, str(delivery.token), holder))
        if attempt is not None or holder.worker_id is None:
            return attempt
        if not persistently(runtime, lambda: may_claim_later(runtime.database, *asked)):
            return None
        logger.warning("This worker's lease has run out: job %s waits until it is renewed.", delivery.job_id)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def holder_of(runtime: Runtime, task: Any, delivery: Delivery) -> Holder:
    """Who runs a task that was delivered so."""
    on_loss = getattr(task, "on_loss", None)
    known = on_loss if on_loss in ON_LOSS else None
    return Holder(delivery.worker_id, runtime.settings.lease_timeout, bool(task.acks_late), known)


def leave(task: Any, state: str | None, result: Any) -> None:
    """Settle what this process has claimed, by how the task ended."""
    held = held_by(task.request)
    if held is not None and state == states.SUCCESS:
        _succeed(held, task, result)
    elif held is not None:
        effects.roll_back(task.request)
        persistently(held.runtime, lambda: _settle(held, task, state, result))
    elif state == states.FAILURE:
        _fail_replaced(task, result)


def _settle(held: Claim, task: Any, state: str | None, result: Any) -> None:
    if state == states.RETRY:
        if task.request.is_eager:
            _give_back(held, JobState.RETRYING)
    elif state == states.REJECTED and result.requeue:
        _put_back(held, task, result)
    elif state is None:
        _leave_unfinished(held, sys.exc_info()[1])
    elif state == states.FAILURE and _bears_retry(held, task, result):
        _try_again(held, task)
    elif state == states.IGNORED:
        end(held.runtime, held.delivery, JobState.COMPLETE)
    else:
        end(held.runtime, held.delivery, JobState.FAILED, result)


def _bears_retry(held: Claim, task: Any, error: Any) -> bool:
    """Whether a job that raised is tried again because its plan says so."""
    is_left = task.request.retries < held.delivery.retries and not task.request.is_eager
    return is_left and not isinstance(error, FinalError)


def _succeed(held: Claim, task: Any, result: Any) -> None:
    runtime, delivery = held.runtime, held.delivery
    try:
        kept = encode_result(delivery, task.name, result, runtime.settings.result_max_bytes)
        data.remember(task, task.request, held, result)
        is_needed = effects.is_needed(task.request)
        data.write_elsewhere(task.request)
        if is_needed:
            effects.open_for(task.request, held)
            _settle_with_effects(held, task, kept)
            return
    except FlowsError as error:
        effects.roll_back(task.request)
        # The body's "as" name is gone by the time that the database may be back.
        problem: FlowsError = error
        persistently(runtime, lambda: end(runtime, delivery, JobState.FAILED, problem))
        return
    persistently(runtime, lambda: end(runtime, delivery, JobState.COMPLETE, result=kept))


def _settle_with_effects(held: Claim, task: Any, result: str | None) -> None:
    runtime, delivery = held.runtime, held.delivery
    relayed = effects.commit(task.request, held, result)
    if relayed is not None:
        ends = (delivery.job_id, delivery.batch_id, delivery.announces_id)
        ready = persistently(runtime, lambda: follow(runtime.database, *ends, relayed=relayed))
        runtime.publisher.publish(ready)
    else:
        # Nothing was written, so the job bears to run again; one that another has taken is left alone.
        reason = "its transaction was not committed"
        persistently(runtime, lambda: give_up(runtime, delivery, reason, bears_again=True))


def _try_again(held: Claim, task: Any) -> None:
    """A job raised whose plan says that it is tried again, though its task does not."""
    same = task.signature_from_request(retries=task.request.retries + 1)
    pause = min(2**task.request.retries, LONGEST_RETRY_PAUSE)
    options = {**same.options, "countdown": pause, "headers": task.request.headers}
    publish_next(held, same.task, same.args, same.kwargs, options)


def _leave_unfinished(held: Claim, error: BaseException | None) -> None:
    """The task neither returned nor raised an Exception that Celery keeps to itself."""
    if isinstance(error, Exception):
        # An eager task whose errors its caller is to see.
        end(held.runtime, held.delivery, JobState.FAILED, error)
    elif not _was_stopped(error):
        # By sys.exit(), or by a shutdown that would not wait.
        reason = "the process" if error is None else type(error).__name__
        give_up(held.runtime, held.delivery, f"{reason} ended the task")


def _was_stopped(error: BaseException | None) -> bool:
    """Whether a task was stopped from outside: then the worker's main process knows why, and reports it.

    That is a greenlet that was killed or timed out, or a pool process that got a signal, which billiard
    turns into an exit with -(256 - signal).
    """
    if isinstance(error, SystemExit):
        return isinstance(error.code, int) and -256 < error.code < -128
    return error is not None and not isinstance(error, KeyboardInterrupt)


def _put_back(held: Claim, task: Any, error: BaseException) -> None:
    """A task wants its message back in the queue.

    The broker does that with a message acknowledged late. One that was acknowledged before it ran is gone:
    it is published again, by us.
    """
    if task.request.is_eager:
        end(held.runtime, held.delivery, JobState.FAILED, error)
    elif task.acks_late:
        _give_back(held, JobState.QUEUED)
    else:
        same = task.signature_from_request()
        publish_next(held, same.task, same.args, same.kwargs, dict(same.options), JobState.READY)


def _give_back(held: Claim, to: JobState) -> None:
    delivery, batch_id = held.delivery, held.delivery.batch_id if to is JobState.QUEUED else None
    claimed = (delivery.job_id, delivery.number, str(delivery.token))
    held.runtime.publisher.publish(requeue(held.runtime.database, *claimed, batch_id=batch_id, to=to))


def _fail_replaced(task: Any, error: Any) -> None:
    """A task of a canvas that replaced a job has failed: so has the job, which nothing else will end."""
    delivery = Delivery.read(task.request.headers)
    runtime = attached_to(task.app)
    if delivery is not None and delivery.is_part and runtime is not None:
        persistently(runtime, lambda: end(runtime, delivery, JobState.FAILED, error))


def end(
    runtime: Runtime,
    delivery: Delivery,
    state: JobState,
    error: BaseException | str | None = None,
    result: str | None = None,
) -> None:
    """Write a job's outcome and publish the callbacks that it armed."""
    error_class = type(error).__name__ if isinstance(error, BaseException) else None
    ending = delivery.ending(state, error_class, _message(error), result)
    ready = settle(runtime.database, ending, batch_id=delivery.batch_id, announces_id=delivery.announces_id)
    if ready:
        runtime.publisher.publish(ready)


def give_up(runtime: Runtime, delivery: Delivery, reason: str, bears_again: bool | None = None) -> None:
    """Lose a job whose process died, and publish what became ready by it: perhaps the job itself."""
    claimed, number = (delivery.job_id, str(delivery.token)), delivery.number
    _, ready = lose(
        runtime.database, *claimed, runtime.loss_policy, reason, bears_again=bears_again, delivery=number
    )
    runtime.publisher.publish(ready)


def _message(error: BaseException | str | None) -> str | None:
    try:
        return None if error is None else safe_text(error)
    except Exception:
        # An exception whose own __str__ raises must not cost the job its outcome.
        return f"<{type(error).__name__} that can't be written>"
