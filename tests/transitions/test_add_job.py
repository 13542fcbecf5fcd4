"""Add a job to a flow that runs: behind jobs that have ended, that run, or that wait themselves."""

from __future__ import annotations

import pytest
from graphs import BATCH, adds, are, edges_of, ends, inner, plans, runs, start, states, takes
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from proofs.world import Died, Mortal
from scenes import add_callback, enroll_jobs, fate_of, make_batch, run_job

from celery_flows.errors import BatchCancelled, BatchFinished, JobTaken, PlanInvalid
from celery_flows.states import BatchState, Condition, JobState
from celery_flows.store import edges
from celery_flows.store.database import Database
from celery_flows.store.publishing import ready_among
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.recover import release_left

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED
FAILURE = Condition.FAILURE


def test_what_waits_for_the_adding_job_waits_for_the_added_one(database: Database) -> None:
    """The last step runs after both, in whichever order they end."""
    start(database, "a>last")
    takes(database, "a")
    assert [job.id for job in adds(database, "a", "more")] == ["more"]
    assert ends(database, "a") == []
    assert states(database, "last") == "waiting"
    assert runs(database, "more") == ["last"]


def test_behind_a_job_that_runs(database: Database) -> None:
    """It waits, and is ready when that is complete."""
    start(database, "a b")
    takes(database, "a")
    assert adds(database, "a", "more", ["b"]) == []
    assert states(database, "more") == "waiting"
    assert runs(database, "b") == ["more"]


def test_behind_jobs_that_have_ended(database: Database) -> None:
    """It is ready at once; where they did not end as it asks, it is skipped at once."""
    start(database, "a b c", tolerate="5")
    runs(database, "b")
    runs(database, "c", FAILED)
    takes(database, "a")
    assert [job.id for job in adds(database, "a", "good", ["b"])] == ["good"]
    assert adds(database, "a", "vain", ["b", "c"]) == []
    assert [job.id for job in adds(database, "a", "rescue", ["c"], FAILURE)] == ["rescue"]
    assert states(database, "good", "vain", "rescue") == "ready skipped ready"


def test_what_waits_for_a_job_that_is_skipped_at_once_goes_on(database: Database) -> None:
    """It is released with that, rather than by a later sweep."""
    start(database, "a~last b", tolerate="5")
    runs(database, "b", FAILED)
    takes(database, "a")
    adds(database, "a", "vain", ["b"])
    assert [job.id for job in ends(database, "a")] == ["last"]


def test_behind_a_job_that_waits_for_the_adding_one(database: Database) -> None:
    """That does not wait for the added job in turn, nor does anything between: else all would wait for ever."""
    start(database, "a>b b>c a>d")
    takes(database, "a")
    adds(database, "a", "more", ["c"])
    assert ("more", "b", True) not in edges_of(database)
    assert [job.id for job in ends(database, "a")] == ["b"]
    assert [runs(database, one) for one in ("b", "c")] == [["c"], ["more"]]
    assert states(database, "d") == "waiting"
    assert runs(database, "more") == ["d"]
    assert runs(database, "d") == []
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_behind_the_adding_job_itself(database: Database) -> None:
    """It runs next, and what waited waits for both."""
    start(database, "a>last")
    takes(database, "a")
    adds(database, "a", "next", ["a"])
    assert [job.id for job in ends(database, "a")] == ["next"]
    assert runs(database, "next") == ["last"]


def test_the_last_job_adds_one_that_is_skipped(database: Database) -> None:
    """A job skipped at once decides what there is to decide; the batch ends with the job that added it."""
    start(database, "a b", tolerate="1")
    failure = add_callback(database, BATCH, "failure")
    runs(database, "b", FAILED)
    takes(database, "a")
    assert [job.id for job in adds(database, "a", "vain", ["b"])] == [failure]
    assert ends(database, "a") == []
    assert fate_of(database, BATCH) == (BatchState.FAILED, True)


def test_a_flow_is_added(database: Database) -> None:
    """It is planned when its turn has come, and what waited waits for its end."""
    start(database, "a>last b")
    takes(database, "a")
    adds(database, "a", "sub", ["b"], call=inner(["settled"]))
    ends(database, "a")
    assert (states(database, "sub"), fate_of(database, "sub")) == ("waiting", (BatchState.PENDING, False))
    assert len(runs(database, "b")) == 1
    assert plans(database, "sub", "sub1") == ["sub1"]
    [callback] = runs(database, "sub1")
    assert states(database, "last") == "waiting"
    assert runs(database, callback) == ["last"]


def test_a_flow_is_added_whose_turn_has_come(database: Database) -> None:
    """Its planning is ready at once; behind what has failed it ends with all that belongs to it."""
    start(database, "a b", tolerate="5")
    runs(database, "b", FAILED)
    takes(database, "a")
    assert [job.kind for job in adds(database, "a", "now", call=inner())] == ["plan"]
    assert fate_of(database, "now") == (BatchState.RUNNING, False)
    adds(database, "a", "vain", ["b"], call=inner(["settled"]))
    assert fate_of(database, "vain") == (BatchState.CANCELLED, True)
    assert are(database, JobState.WAITING) == []


def test_several_are_added_at_once(database: Database) -> None:
    """Those that begin wait for all that they are added behind, over a join; the last hold up what waits."""
    start(database, "a>last b c")
    takes(database, "a")
    assert adds(database, "a", "x>z y>z", ["b", "c"]) == []
    assert [len([edge for edge in edges_of(database) if one in edge]) for one in "bcxyz"] == [1, 1, 2, 2, 3]
    ends(database, "a")
    assert [runs(database, one) for one in "bcxyz"] == [[], ["x", "y"], [], ["z"], ["last"]]
    assert [runs(database, "last"), fate_of(database, BATCH)] == [[], (BatchState.COMPLETE, True)]


def test_several_are_added_behind_what_has_ended(database: Database) -> None:
    """They begin at once, and the join is over; where what they wait for went wrong, all of them are skipped."""
    start(database, "a~last b c d", tolerate="9")
    for name, state in {"b": COMPLETE, "c": COMPLETE, "d": FAILED}.items():
        runs(database, name, state)
    takes(database, "a")
    assert [job.id for job in adds(database, "a", "x>z y>z", ["b", "c"])] == ["x", "y"]
    assert adds(database, "a", "k>m l>m", ["c", "d"]) == []
    assert states(database, *"klm") == "skipped skipped skipped"
    assert ends(database, "a") == []
    assert [runs(database, one) for one in "xyz"] == [[], ["z"], ["last"]]
    runs(database, "last")
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_several_are_added_in_one_transaction(database: Database) -> None:
    """Who dies as they are skipped leaves no half of them: the sweep sees to the rest."""
    start(database, "a~last b", tolerate="9")
    runs(database, "b", FAILED)
    takes(database, "a")
    mortal = Mortal(database.url)
    mortal.left = 1
    with pytest.raises(Died):
        adds(mortal, "a", "k>m l>m", ["b"])
    mortal.close()
    assert states(database, *"klm") == "skipped skipped waiting"
    release_left(database, 0)
    assert states(database, *"klm") == "skipped skipped skipped"
    assert [job.id for job in ends(database, "a")] == ["last"]


def test_what_can_not_be_added(database: Database) -> None:
    """A name that is taken, a job of another flow, and one behind it, are refused, and nothing is written."""
    start(database, "a b")
    other = make_batch(database, id="other")
    enroll_jobs(database, other, 1)
    takes(database, "a")
    with pytest.raises(PlanInvalid, match="has a job named 'b' already"):
        adds(database, "a", "b")
    [foreign] = [job for job in are(database, JobState.READY) if job != "b"]
    for stranger in (foreign, "nobody"):
        with pytest.raises(PlanInvalid, match="no job of this flow"):
            adds(database, "a", "more", ["b", stranger])
    assert edges_of(database) == []


def test_to_what_is_over(database: Database) -> None:
    """A cancelled or finished batch refuses, and so does the fence of a job that was given up."""
    start(database, "a>last b")
    takes(database, "a")
    lose(database, "a", "token-a", LossPolicy("retry", 3), "it died")
    with pytest.raises(JobTaken):
        adds(database, "a", "more", ["b"])
    takes(database, "a")
    cancel(database, BATCH)
    with pytest.raises(BatchCancelled):
        adds(database, "a", "more", ["b"])
    ends(database, "a")
    with pytest.raises(BatchFinished):
        adds(database, None, "more", ["b"])
    assert edges_of(database) == [("a", "last", False)]


@on_servers
def test_beside_the_end_of_what_it_waits_for(database: Database) -> None:
    """Who ends that job waits for the adding to commit, and finds the new edge."""
    start(database, "a b")
    takes(database, "b")
    with opened(database) as connection:
        edges.let_block(connection, database.tables, ["b"])
        done = beside(ends, database, "b")
        wait_for_waiter(database)
        edges.add(connection, database.tables, [edges.NewEdge("b", "a", Condition.COMPLETE)])
    outcome(done)
    assert edges_of(database) == [("b", "a", False)]


def test_the_added_job_may_be_its_batchs_first_by_share(database: Database) -> None:
    """Jobs added are among all that are known, of which a share may fail."""
    batch = make_batch(database, tolerate="50%")
    [job, other] = enroll_jobs(database, batch, 2)
    adds(database, None, "more", batch=batch)
    adds(database, None, "again", batch=batch)
    for one in (job, "more"):
        run_job(database, one, batch, FAILED)
    for one in (other, "again"):
        run_job(database, one, batch)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)
    with database.reading() as connection:
        assert ready_among(connection, database.tables, [job]) == []
