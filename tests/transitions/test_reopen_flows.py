"""Retry of flows: what failed runs again, and what waited for it, in the order of the plan."""

from __future__ import annotations

import pytest
from apps import rows
from graphs import BATCH, edges_of, ends, grows, inner, plan_of, plans, runs, start, states, takes, work_off
from proofs.world import Died, Mortal
from scenes import fate_of, row, state_of, tally

from celery_flows.codec import decode, encode
from celery_flows.plan import Node, Plan
from celery_flows.states import BatchState, JobState, Kind, Takes
from celery_flows.store import edges
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.recover import release_left
from celery_flows.transitions.release import release, release_all
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.settle import settle

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED
DOWNSTREAM, ALL = Mode.FAILED_AND_DOWNSTREAM, Mode.ALL


def retry(database: Database, batch: str = BATCH, mode: Mode = DOWNSTREAM) -> None:
    """Retry as a user does, but for the publishing."""
    for reopened in reopen(database, batch, mode):
        release_all(database, reopened)
        advance(database, reopened)


def failed(database: Database, edges: str, *names: str, **options: object) -> None:
    """A flow that is over, in which these jobs failed."""
    start(database, edges, **options)
    work_off(database, dict.fromkeys(names, FAILED))
    assert fate_of(database, BATCH)[1]


@pytest.mark.parametrize(
    ("mode", "ran"),
    [(Mode.FAILED, ["b"]), (DOWNSTREAM, ["b", "c", "d"]), (ALL, ["a", "b", "c", "d", "e"])],
)
def test_each_mode_runs_its_jobs_in_order(database: Database, mode: Mode, ran: list[str]) -> None:
    """Failed ones; those and what waited in vain; or all, each after what it waits for."""
    failed(database, "a>b b>c c>d a>e", "b")
    assert states(database, *"abcde") == "complete failed skipped skipped complete"
    retry(database, mode=mode)
    assert work_off(database) == ran
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_what_ran_after_a_failure_runs_again(database: Database) -> None:
    """What waited for any end of it runs again after it; a failure branch is skipped once it is not needed."""
    failed(database, "a~b a!c c>d", "a")
    assert states(database, *"abcd") == "failed complete complete complete"
    retry(database)
    assert states(database, *"abcd") == "ready waiting waiting waiting"
    assert work_off(database) == ["a", "b"]
    assert states(database, *"abcd") == "complete complete skipped skipped"
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_it_fails_again(database: Database) -> None:
    """Then what waits is skipped again, and counts in this round as in the last."""
    failed(database, "a>b b>c", "a", tolerate="1")
    retry(database)
    assert tally(database, BATCH)[1] == 0
    assert work_off(database, {"a": FAILED}) == ["a"]
    assert (states(database, *"abc"), tally(database, BATCH)[1]) == ("failed skipped skipped", 3)
    assert fate_of(database, BATCH) == (BatchState.FAILED, True)


def test_over_a_join(database: Database) -> None:
    """The join waits again for the jobs that run again, and opens when they are complete."""
    failed(database, "a>join b>join join>x join>y", "b")
    retry(database)
    assert states(database, "a", "b", "join", "x", "y") == "complete ready waiting waiting waiting"
    assert work_off(database) == ["b", "x", "y"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_results_are_taken_anew(database: Database) -> None:
    """A job that runs again gets the results of this round, and not those of the last before them."""
    plan = Plan()
    for name in ("a", "b"):
        plan.add(Node(name, Kind.TASK, "shop.score", '["own"]'))
    plan.connect(["a"], ["b"], takes=Takes.ONE)
    start(database, plan)
    runs(database, "a", result=encode("first"))
    for mode in (Mode.FAILED, DOWNSTREAM, ALL):
        runs(database, "b", FAILED)
        retry(database, mode=mode)
        if mode is ALL:
            runs(database, "a", result=encode("second"))
        result = "second" if mode is ALL else "first"
        assert (states(database, "b"), decode(row(database, "b").args)) == ("ready", [result, "own"])


# ---------------------------------------------------------------- flows inside


def test_a_flow_inside_whose_turn_had_not_come(database: Database) -> None:
    """It waits again, and is planned when what failed before it is complete."""
    failed(database, "a>sub sub>last", "a", flows={"sub": inner(["complete"])})
    assert states(database, "sub", "last") == "skipped skipped"
    retry(database)
    assert states(database, "a", "sub", "last") == "ready waiting waiting"
    assert fate_of(database, "sub") == (BatchState.PENDING, False)
    assert work_off(database, inside={"sub": "x"}) == ["a", "plan sub", "x", "complete of sub", "last"]
    assert fate_of(database, BATCH) == fate_of(database, "sub") == (BatchState.COMPLETE, True)


def test_a_flow_inside_stays_skipped_where_only_what_failed_runs(database: Database) -> None:
    """Mode "failed" runs what failed, and what was skipped stays so, flows inside as jobs."""
    failed(database, "a>sub a>b", "a", flows={"sub": inner()})
    retry(database, mode=Mode.FAILED)
    assert work_off(database) == ["a"]
    assert states(database, "sub", "b") == "skipped skipped"
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


@pytest.mark.parametrize("mode", Mode)
def test_a_flow_inside_whose_turn_never_came_is_retried_on_its_own(database: Database, mode: Mode) -> None:
    """It begins by that, so it comes to an end, whatever there is to run in it."""
    failed(database, "a>sub", "a", flows={"sub": inner()})
    retry(database, "sub", mode)
    work_off(database, inside={"sub": "x"})
    assert fate_of(database, "sub") == (BatchState.COMPLETE, True)
    assert fate_of(database, BATCH)[1]


def test_a_flow_inside_that_was_not_needed(database: Database) -> None:
    """A failure branch that is a flow begins in the round in which it is needed."""
    failed(database, "a!sub a>b", "b", flows={"sub": inner()})
    retry(database)
    assert states(database, "a", "b", "sub") == "complete ready skipped"
    assert work_off(database) == ["b"]
    retry(database, mode=ALL)
    assert states(database, "a", "b", "sub") == "ready waiting waiting"
    assert work_off(database, {"a": FAILED}, {"sub": "x"}) == ["a", "plan sub", "x"]
    assert states(database, "sub", "b") == "complete skipped"


def test_a_flow_inside_that_failed(database: Database) -> None:
    """Its failed job runs again, and what waited for the flow waits for it again."""
    start(database, "sub>b b>c", flows={"sub": inner()})
    work_off(database, {"x": FAILED}, {"sub": "x>y"})
    assert states(database, "sub", "b", "c", "y") == "failed skipped skipped skipped"
    retry(database)
    assert states(database, "sub", "b", "c", "x", "y") == "running waiting waiting ready waiting"
    assert work_off(database) == ["x", "y", "b", "c"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_a_flow_inside_runs_again_in_its_turn(database: Database) -> None:
    """In mode "all" it waits for what is before it, with all that is in it; what was planned stays planned."""
    start(database, "a>sub sub>c", flows={"sub": inner(["settled"])})
    ran = work_off(database, inside={"sub": "x>y"})
    retry(database, mode=ALL)
    assert states(database, "a", "sub", "x", "y", "c") == "ready waiting waiting waiting waiting"
    assert work_off(database) == [one for one in ran if one != "plan sub"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_a_flow_inside_that_ran_after_a_failure_runs_again(database: Database) -> None:
    """It came after what runs again, as a job does: all that is in it has its turn, and what waited for it."""
    flows = {"sub": inner(["settled"]), "low": inner()}
    start(database, "a~sub sub>b a>c other", flows=flows)
    ran = work_off(database, {"a": FAILED}, {"sub": plan_of("x>low low>y", flows=flows), "low": "z"})
    assert [one for one in ran if one != "other"] == [
        *("a", "plan sub", "x", "plan low", "z", "y"),
        *("settled of sub", "b"),
    ]
    retry(database)
    assert states(database, "a", "sub", "low", *"xyzbc") == "ready" + " waiting" * 7
    assert [one for one in work_off(database) if one != "c"] == ["a", "x", "z", "y", "settled of sub", "b"]
    assert fate_of(database, BATCH) == fate_of(database, "sub") == (BatchState.COMPLETE, True)


def test_a_flow_inside_that_failed_after_a_failure_runs_as_a_whole(database: Database) -> None:
    """What was complete in it came after what runs again, too."""
    start(database, "a~sub", flows={"sub": inner()})
    work_off(database, {"a": FAILED, "y": FAILED}, {"sub": "x y"})
    retry(database)
    assert work_off(database) == ["a", "x", "y"]
    start(database, "k>more", batch="another", flows={"more": inner()})
    work_off(database, {"n": FAILED}, {"more": "m n"})
    retry(database, "another")
    assert work_off(database) == ["n"]


def test_a_flow_inside_that_runs_again_is_not_reached(database: Database) -> None:
    """What is before it fails now: it is skipped with all that is in it, and its batch is finished."""
    start(database, "a>sub sub~c", flows={"sub": inner(["settled"])})
    work_off(database, inside={"sub": "x>y"})
    retry(database, mode=ALL)
    assert work_off(database, {"a": FAILED}) == ["a", "c"]
    assert states(database, "a", "sub", "x", "y", "c") == "failed skipped skipped skipped complete"
    assert fate_of(database, "sub")[1]
    assert fate_of(database, BATCH) == (BatchState.FAILED, True)
    retry(database)
    work_off(database)
    assert states(database, "a", "sub", "x", "y", "c") == "complete complete complete complete complete"
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_only_what_is_behind_the_child_waits_again(database: Database) -> None:
    """One of two flows that failed is retried on its own: what waited for the other stays as it is."""
    flows = {name: inner() for name in ("one", "two", "after1", "after2")}
    start(database, "one>after1 two>after2", flows=flows)
    work_off(database, {"x": FAILED, "y": FAILED}, {"one": "x", "two": "y"})
    assert states(database, "after1", "after2") == "skipped skipped"
    retry(database, "one")
    retry(database, "two")
    assert sorted(work_off(database)) == ["plan after1", "plan after2", "x", "y"]
    assert fate_of(database, BATCH)[1]


def test_the_parent_waits_for_a_child_that_is_retried(database: Database) -> None:
    """It failed by that child alone, so it is opened, and goes on behind it."""
    start(database, "sub>b sub>inside", flows={"sub": inner(), "inside": inner()})
    work_off(database, {"x": FAILED}, {"sub": "x"})
    retry(database, "sub")
    assert states(database, "sub", "b", "inside") == "running waiting waiting"
    assert sorted(work_off(database, inside={"inside": "z"})) == ["b", "plan inside", "x", "z"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


@pytest.mark.parametrize(
    ("end", "mode", "again"),
    [(COMPLETE, ALL, ["i"]), (COMPLETE, Mode.FAILED, []), (FAILED, DOWNSTREAM, ["i", "x", "y", "z"])],
)
def test_nothing_is_complete_twice_in_a_round(
    database: Database, end: JobState, mode: Mode, again: list[str]
) -> None:
    """A flow is retried on its own while its parent runs: what came after it there, and is complete, stays so."""
    start(database, "last sub~settled sub!rescue sub>join other~join join>x join>y y>z", flows={"sub": inner()})
    takes(database, "last")
    work_off(database, {"i": end}, {"sub": "i"})
    after = states(database, "settled", "rescue", "x")
    assert after == ("complete skipped complete" if end is COMPLETE else "complete complete skipped")
    retry(database, "sub", mode)
    assert work_off(database) == again
    assert states(database, "sub", "settled", "x", "y", "z") == " ".join(["complete"] * 5)
    ends(database, "last")
    assert fate_of(database, BATCH)[1]


@pytest.mark.parametrize("mode", [Mode.FAILED, DOWNSTREAM])
def test_what_waits_for_nothing_that_runs_again(database: Database, mode: Mode) -> None:
    """A flow is retried on its own: what came after it, by way of what is complete, is judged at once."""
    edges = "last other sub~x x>failed x>join other>join join>y x>skipped other>skipped x>ready"
    start(database, edges, flows={"sub": inner()}, tolerate="9")
    takes(database, "last")
    assert plans(database, "sub", "i") == ["i"]
    for one in ("i", "other"):
        runs(database, one, FAILED)
    assert runs(database, "x") == ["failed", "ready"]
    runs(database, "failed", FAILED)
    retry(database, "sub", mode)
    assert states(database, "join", "y", "skipped") == "skipped skipped skipped"
    assert work_off(database) == (["failed", "i", "ready"] if mode is DOWNSTREAM else ["i", "ready"])
    ends(database, "last")
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_who_releases_slowly_does_not_forget_a_second_end(database: Database) -> None:
    """A flow is retried and ends again, and who is to release it dies; who released it before is not done yet."""
    start(database, "last sub>join other>join join>x join>y", flows={"sub": inner()})
    takes(database, "last")
    takes(database, "other")
    work_off(database, inside={"sub": "i"})
    retry(database, "sub", ALL)
    takes(database, "i")
    mortal = Mortal(database.url)
    # The outcome, the probe, and the end of the flow with that of its row; before what closes the edges.
    mortal.left = 3
    with pytest.raises(Died):
        ends(mortal, "i")
    mortal.close()
    assert (state_of(database, "sub"), row(database, "sub").releasing_since is None) == (COMPLETE, False)
    database.run(edges.forget_release, at_id="sub")
    ends(database, "other")
    release_left(database, 0)
    assert work_off(database) == ["x", "y"]


# ---------------------------------------------------------------- after a cancel, a crash, a loss


def test_a_cancelled_flow_goes_on(database: Database) -> None:
    """What was cancelled while it waited waits again, joins and flows inside too."""
    start(database, "a>join b>join join>c join>d c>sub", flows={"sub": inner(["complete"])})
    runs(database, "a")
    cancel(database, BATCH)
    assert fate_of(database, BATCH) == (BatchState.CANCELLED, True)
    assert fate_of(database, "sub") == (BatchState.CANCELLED, True)
    retry(database)
    ran = work_off(database, inside={"sub": "x"})
    assert sorted(ran) == ["b", "c", "complete of sub", "d", "plan sub", "x"]
    assert fate_of(database, BATCH) == fate_of(database, "sub") == (BatchState.COMPLETE, True)


@pytest.mark.parametrize("mode", list(Mode))
def test_cancelled_between_the_end_of_a_job_and_its_release(database: Database, mode: Mode) -> None:
    """What the job would have released waits for nothing then: it begins with the retry."""
    start(database, "a>sub a>join join>x join>y sub>z", flows={"sub": inner()})
    takes(database, "a")
    ends_without_release(database, "a")
    cancel(database, BATCH)
    release(database, "a")
    retry(database, mode=mode)
    ran = work_off(database)
    assert sorted(ran) == sorted([*(["a"] if mode is ALL else []), "plan sub", "x", "y", "z"])
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def ends_without_release(database: Database, job_id: str) -> None:
    """Let a worker die when it has written an outcome."""
    mortal = Mortal(database.url)
    mortal.left = 1
    with pytest.raises(Died):
        ends(mortal, job_id, blocks=False)
    mortal.close()


@pytest.mark.parametrize("mode", [DOWNSTREAM, ALL])
def test_who_retries_may_die(database: Database, mode: Mode) -> None:
    """All that a retry changes is one commit; what waits for nothing then is found by the sweep."""
    start(database, "a>join b>join join>x join>y", tolerate="9")
    work_off(database)
    start(database, "c>k c>l k>join2 l>join2 join2>m join2>n", batch="other", tolerate="9")
    takes(database, "c")
    ends_without_release(database, "c")
    cancel(database, "other")
    release(database, "c")
    reopen(database, "other", mode)
    work_off(database)
    release_left(database, 0)
    work_off(database)
    release_left(database, 0)
    work_off(database)
    assert fate_of(database, "other") == (BatchState.COMPLETE, True)


def test_retry_beside_a_loss(database: Database) -> None:
    """A late success of the last round does not end the job of this one, nor release what waits for it."""
    start(database, "a>b")
    takes(database, "a")
    lose(database, "a", "token-a", LossPolicy("fail", 3), "it was stopped")
    retry(database)
    delivery = row(database, "a").delivery
    late = Ending("a", COMPLETE, delivery=delivery - 1, token="token-a", blocks=True)
    assert settle(database, late, batch_id=BATCH) == []
    assert states(database, "a", "b") == "ready waiting"
    assert edges_of(database) == [("a", "b", True)]


def test_grown_jobs_run_again_in_order(database: Database) -> None:
    """What a job has added is part of the flow, and so is its place."""
    start(database, "a>b")
    takes(database, "a")
    grows(database, "a", "more")
    ends(database, "a")
    work_off(database, {"more": FAILED})
    assert states(database, "more", "b") == "failed skipped"
    retry(database)
    assert work_off(database) == ["more", "b"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_a_failed_planning_is_tried_again(database: Database) -> None:
    """A retry plans it anew, and the flow goes on."""
    start(database, "sub>b", flows={"sub": inner()})
    [planning] = rows(database, kind=Kind.PLAN)
    runs(database, planning.id, FAILED)
    retry(database)
    assert (state_of(database, planning.id), states(database, "b")) == ("ready", "waiting")
    assert plans(database, "sub", "x") == ["x"]
    assert work_off(database) == ["x", "b"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)
