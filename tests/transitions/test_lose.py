"""Lose: what becomes of a job whose worker died, and of its success if that comes all the same."""

from __future__ import annotations

import pytest
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from scenes import (
    add_callback,
    batch_row,
    enroll_jobs,
    fate_of,
    ids,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
    tally,
)

from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.store.losses import Holding
from celery_flows.store.publishing import Published, ready_among
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.finalize import finalize
from celery_flows.transitions.lose import LossPolicy, Lost, _lose, accept_late, lose
from celery_flows.transitions.publish import mark_published
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.settle import settle

FAIL, RETRY = LossPolicy("fail", 3), LossPolicy("retry", 3)
COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED


def take(
    database: Database, job: str, token: str = "t", *, late: bool = False, on_loss: str | None = None
) -> None:
    """Claim a job as a worker's process."""
    holder = Holder(is_late=late, on_loss=on_loss)
    assert claim(database, job, row(database, job).delivery, token, holder) is not None


def given_up(
    database: Database, job: str, policy: LossPolicy = FAIL, token: str = "t", reason: str = "killed"
) -> Lost:
    """Lose a claimed job that must be there to be lost."""
    lost, _ = lose(database, job, token, policy, reason)
    assert lost is not None
    return lost


def succeed(database: Database, job: str, batch: str, token: str = "t", delivery: int = 1) -> list[str]:
    """Report a success, in time or late."""
    return ids(settle(database, Ending(job, COMPLETE, delivery=delivery, token=token), batch_id=batch))


# ---------------------------------------------------------------- the policy


@pytest.mark.parametrize(
    ("late", "task", "batch", "setting", "again"),
    [
        (False, None, None, "fail", False),
        (False, None, None, "retry", True),
        (False, None, "retry", "fail", True),
        (False, None, "fail", "retry", False),
        (False, "fail", "retry", "retry", False),
        (False, "retry", "fail", "fail", True),
        (True, "fail", "fail", "fail", True),
    ],
)
def test_the_nearest_word_on_losses_counts(
    database: Database, late: bool, task: str | None, batch: str | None, setting: str, again: bool
) -> None:
    """The task's goes before the batch's, that before the setting; acknowledged late, a job always runs again."""
    batch_id, [job] = running_batch(database, on_loss=batch)
    take(database, job, late=late, on_loss=task)
    assert given_up(database, job, LossPolicy(setting, 3)).is_again is again
    assert state_of(database, job) is (JobState.READY if again else FAILED)
    assert fate_of(database, batch_id)[0] is (BatchState.RUNNING if again else BatchState.FAILED)


def test_a_spent_message_leaves_the_policy_to_decide(database: Database) -> None:
    """Its process was killed and Celery acknowledged the message, late though it was to be: on_loss decides.

    And a job of which it is known that nothing was done runs again, whatever its policy.
    """
    _, [late, early] = running_batch(database, 2)
    take(database, late, late=True)
    take(database, early)
    assert lose(database, late, "t", FAIL, "killed", bears_again=False)[0] == Lost(
        late, False, *place(database, late)
    )
    lost, ready = lose(database, early, "t", FAIL, "not committed", bears_again=True)
    assert (lost is not None and lost.is_again, ids(ready)) == (True, [early])


def place(database: Database, job: str) -> tuple[str, None, list[str]]:
    """Where a failed job belongs, and that nothing became ready."""
    return row(database, job).batch_id, None, []


def test_a_job_that_runs_again_has_a_new_delivery(database: Database) -> None:
    """It is about to be published; the old message, should the broker bring it again, claims nothing."""
    _, [job] = running_batch(database)
    take(database, job, late=True)
    lost, ready = lose(database, job, "t", FAIL, "killed")
    found = row(database, job)
    assert (found.state, found.delivery, found.losses, found.worker_id) == ("ready", 2, 1, None)
    assert (found.publishing_since is not None, [one.delivery for one in ready]) == (True, [2])
    assert (lost is not None and lost.is_again, claim(database, job, 1, "old")) == (True, None)
    assert claim(database, job, 2, "new") == 2


def test_a_job_that_fails_says_why(database: Database) -> None:
    """WorkerLost, with which loss it was and the reason, safe at the column."""
    batch, [job] = running_batch(database)
    failure = add_callback(database, batch, "failure")
    take(database, job)
    _, ready = lose(database, job, "t", FAIL, "signal 9\x00")
    found = row(database, job)
    assert (found.state, found.error_class, found.losses, found.wrong) == ("failed", "WorkerLost", 1, 1)
    assert "signal 9\ufffd" in found.error_message
    assert (ids(ready), fate_of(database, batch)) == ([failure], (BatchState.FAILED, True))


@pytest.mark.parametrize("policy", [FAIL, RETRY])
def test_a_callback_always_runs_again(database: Database, policy: LossPolicy) -> None:
    """What a batch announces must be heard, whatever the policy; its third loss is its end all the same."""
    batch, [job] = running_batch(database)
    callback = add_callback(database, batch, "complete")
    run_job(database, job, batch)
    for number in (1, 2):
        take(database, callback)
        assert given_up(database, callback, policy) == Lost(
            callback, True, None, batch, ready_again(database, callback)
        )
        assert row(database, callback).losses == number
    take(database, callback)
    assert not given_up(database, callback, policy).is_again
    assert (state_of(database, callback), fate_of(database, batch)) == (FAILED, (BatchState.COMPLETE, True))


def ready_again(database: Database, job: str) -> list[object]:
    """What a publisher is given of a job."""
    with database.reading() as connection:
        return [*ready_among(connection, database.tables, [job])]


def test_a_childs_last_callback_that_is_lost_for_good_ends_its_row(database: Database) -> None:
    """The parent waits for no callback that will never end."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    callback = add_callback(database, child, "complete")
    run_job(database, job, child)
    take(database, callback)
    lose(database, callback, "t", LossPolicy("fail", 1), "killed")
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


@pytest.mark.parametrize("late", [True, False])
def test_a_poison_job_fails_after_its_third_loss(database: Database, late: bool) -> None:
    """However it was delivered, and whatever its policy."""
    batch, [job] = running_batch(database)
    for _ in range(2):
        take(database, job, late=late)
        assert given_up(database, job, RETRY).is_again
    take(database, job, late=late)
    assert not given_up(database, job, RETRY).is_again
    found = row(database, job)
    assert (found.error_class, found.losses, found.attempt) == ("WorkerLost", 3, 3)
    assert "number 3" in found.error_message
    assert fate_of(database, batch) == (BatchState.FAILED, True)


# ---------------------------------------------------------------- the fence


def test_only_the_claim_that_is_meant_is_lost(database: Database) -> None:
    """Another token's claim, one that was lost already, and a job that ended are left as they are."""
    batch, [job, done] = running_batch(database, 2)
    take(database, job, "mine")
    before = row(database, job)
    assert lose(database, job, "another", RETRY, "killed") == (None, [])
    assert row(database, job) == before
    run_job(database, done, batch)
    assert lose(database, done, "worker", RETRY, "killed") == (None, [])
    given_up(database, job, RETRY, "mine")
    after = row(database, job)
    assert lose(database, job, "mine", RETRY, "killed") == (None, [])
    assert row(database, job) == after


def test_a_job_that_failed_by_its_loss_is_counted_once(database: Database) -> None:
    """Given up twice, it is wrong once."""
    batch, [job, _] = running_batch(database, 2, tolerate="1")
    take(database, job)
    for _ in range(2):
        lose(database, job, "t", FAIL, "killed")
    assert (tally(database, batch), fate_of(database, batch)) == ((0, 1), (BatchState.RUNNING, False))


# ---------------------------------------------------------------- a success that comes late


@pytest.mark.parametrize("published", [False, True])
def test_a_late_success_spares_the_second_run(database: Database, published: bool) -> None:
    """The job waits to be run again, published or not: it is complete instead; its new message claims nothing."""
    batch, [job] = running_batch(database)
    complete = add_callback(database, batch, "complete")
    take(database, job)
    given_up(database, job, RETRY)
    if published:
        mark_published(database, [Published(job, 2)])
    assert succeed(database, job, batch) == [complete]
    found = row(database, job)
    assert (found.state, found.publishing_since) == ("complete", None)
    assert (claim(database, job, 2, "new"), fate_of(database, batch)) == (None, (BatchState.COMPLETE, True))


def test_a_late_success_comes_too_late_for_a_second_run(database: Database) -> None:
    """Another worker has claimed the job: its outcome counts, and the first one's report changes nothing."""
    batch, [job] = running_batch(database)
    take(database, job)
    given_up(database, job, RETRY)
    take(database, job, "second")
    assert succeed(database, job, batch) == []
    assert (state_of(database, job), row(database, job).token) == (JobState.RUNNING, "second")
    succeed(database, job, batch, "second", 2)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_late_success_of_a_failed_job_is_accepted_within_the_tolerance(database: Database) -> None:
    """Nothing had followed from the loss: the job is complete, and its failure uncounted."""
    batch, [job, last] = running_batch(database, 2, tolerate="1")
    take(database, job)
    given_up(database, job)
    assert tally(database, batch) == (0, 1)
    succeed(database, job, batch)
    found = row(database, job)
    assert (found.state, found.error_class, found.error_message, found.wrong) == ("complete", None, None, 0)
    assert tally(database, batch) == (0, 0)
    run_job(database, last, batch)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_late_success_does_not_undo_the_fate_it_decided(database: Database) -> None:
    """The loss had failed the batch, and its callback has said so."""
    batch, [job, _] = running_batch(database, 2)
    take(database, job)
    given_up(database, job)
    before = row(database, job)
    assert succeed(database, job, batch) == []
    assert (row(database, job), fate_of(database, batch)) == (before, (BatchState.FAILED, False))


@pytest.mark.parametrize("tolerate", ["0", "1"])
def test_a_late_success_is_accepted_where_the_fate_stands_without_it(database: Database, tolerate: str) -> None:
    """So much else went wrong that the batch has failed either way."""
    batch, [job, *others] = running_batch(database, 5, tolerate=tolerate)
    take(database, job)
    for other in others[:2]:
        run_job(database, other, batch, FAILED)
    given_up(database, job)
    succeed(database, job, batch)
    assert (state_of(database, job), fate_of(database, batch)) == (COMPLETE, (BatchState.FAILED, False))


def test_a_late_success_in_a_cancelled_batch_is_accepted(database: Database) -> None:
    """Its fate was not decided by the loss, and what runs may finish."""
    batch, [job, other] = running_batch(database, 2)
    for one in (job, other):
        take(database, one)
    cancel(database, batch)
    given_up(database, job)
    succeed(database, job, batch)
    assert (state_of(database, job), fate_of(database, batch)) == (COMPLETE, (BatchState.CANCELLED, False))


def test_a_late_success_in_a_finished_batch_is_refused(database: Database) -> None:
    """The batch is complete with the loss that it tolerated, and has said so."""
    batch, [job] = running_batch(database, 1, tolerate="1")
    take(database, job)
    given_up(database, job)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)
    before = batch_row(database, batch)
    succeed(database, job, batch)
    assert (state_of(database, job), batch_row(database, batch)) == (FAILED, before)


def test_a_late_success_does_not_reach_into_the_next_round(database: Database) -> None:
    """The batch was retried: the job's new round has nothing to do with the old claim."""
    batch, [job] = running_batch(database)
    take(database, job)
    given_up(database, job)
    reopen(database, batch, Mode.FAILED)
    succeed(database, job, batch)
    assert (state_of(database, job), fate_of(database, batch)) == (JobState.READY, (BatchState.RUNNING, False))


def test_a_late_failure_says_nothing_new(database: Database) -> None:
    """A job that was given up and is to run again is not ended by the run that was given up."""
    batch, [job] = running_batch(database)
    take(database, job)
    given_up(database, job, RETRY)
    ending = Ending(job, FAILED, "ValueError", "late", delivery=1, token="t")
    assert settle(database, ending, batch_id=batch) == []
    assert (state_of(database, job), fate_of(database, batch)) == (JobState.READY, (BatchState.RUNNING, False))


@on_servers
def test_a_late_success_waits_for_who_decides_the_batch(database: Database) -> None:
    """The decision holds the batch's row: the success waits, and finds the fate decided by the loss."""
    batch, [job, _] = running_batch(database, 2)
    take(database, job)
    # Lost, and nobody has looked at the batch yet.
    database.transact(_lose, database.tables, Holding(job, "t"), FAIL, "killed", None)
    with opened(database) as connection:
        finalize(connection, database.tables, batch)
        accepting = beside(accept_late, database, job, "t")
        wait_for_waiter(database)
    assert outcome(accepting) is False
    assert (state_of(database, job), fate_of(database, batch)) == (FAILED, (BatchState.FAILED, False))


@pytest.mark.parametrize("delivered", [JobState.READY, JobState.QUEUED])
def test_a_message_that_died_with_its_process_unclaimed_is_sent_again(
    database: Database, delivered: JobState
) -> None:
    """It had not begun, so it is run again; yet it is counted as lost, or this might go on for ever."""
    batch, [job] = running_batch(database)
    if delivered is JobState.QUEUED:
        mark_published(database, [Published(job, 1, "celery")])
    gone = {"delivery": 1, "bears_again": False}
    assert lose(database, job, "t", FAIL, "killed", delivery=2) == (None, [])
    lost, ready = lose(database, job, "t", FAIL, "killed", **gone)
    assert (lost and lost.is_again, [(one.id, one.delivery) for one in ready]) == (True, [(job, 2)])
    assert lose(database, job, "t", FAIL, "killed", **gone) == (None, [])
    lose(database, job, "t", FAIL, "killed", delivery=2)
    lose(database, job, "t", FAIL, "killed", delivery=3)
    assert (state_of(database, job), row(database, job).losses) == (JobState.FAILED, 3)
    assert fate_of(database, batch) == (BatchState.FAILED, True)
