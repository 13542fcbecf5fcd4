"""Release: what waited for a job that has ended becomes ready, or is skipped, and so on down the flow."""

from __future__ import annotations

from itertools import permutations

import pytest
from apps import rows
from graphs import BATCH, are, edges_of, ends, inner, plans, runs, start, states, takes, work_off
from locks import beside, on_servers, outcome, wait_for_waiter
from proofs.world import Died, Mortal
from scenes import add_callback, age, fate_of, ids, row, tally

from celery_flows.codec import decode, encode
from celery_flows.plan import Edge, Node, Plan
from celery_flows.states import BatchState, Condition, JobState, Kind, Takes
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.claim import claim
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.recover import release_left
from celery_flows.transitions.release import release, settle_waiting
from celery_flows.transitions.settle import settle

COMPLETE, FAILED, CANCELLED = JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED
RUNNING = (BatchState.RUNNING, False)


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("state", "then"),
    [(COMPLETE, "ready skipped ready"), (FAILED, "skipped ready ready"), (CANCELLED, "skipped skipped ready")],
)
def test_each_condition(database: Database, state: JobState, then: str) -> None:
    """`complete` is met by complete only, `failure` by failed only, `settled` by any end."""
    start(database, "a>good a!bad a~any", tolerate="9")
    runs(database, "a", state)
    assert states(database, "good", "bad", "any") == then


def test_what_is_skipped_skips_what_waits_for_it(database: Database) -> None:
    """All the way down in one pass; what waited for any end of it runs."""
    start(database, "a>b b>c c>d d~e b!f", tolerate="9")
    assert runs(database, "a", FAILED) == ["e"]
    assert states(database, "b", "c", "d", "e", "f") == "skipped skipped skipped ready skipped"


def test_a_job_waits_for_all_before_it(database: Database) -> None:
    """It moves with the last of them, whichever that is, even where it is plain before that it will be skipped."""
    start(database, "a>d b>d c>d", tolerate="9")
    assert (runs(database, "b", FAILED), runs(database, "a")) == ([], [])
    assert states(database, "d") == "waiting"
    assert runs(database, "c") == []
    assert states(database, "d") == "skipped"


@pytest.mark.parametrize("order", [*permutations("abc")], ids="".join)
def test_a_join_opens_with_the_last_of_many(database: Database, order: tuple[str, ...]) -> None:
    """N before M are N + M edges, and all M are ready with the last of the N."""
    plan = Plan()
    for name in ("a", "b", "c", "x", "y"):
        plan.add(Node(name, Kind.TASK, "shop.score", "[1]"))
    plan.connect("abc", "xy")
    start(database, plan)
    assert len(edges_of(database)) == 5
    assert [runs(database, one) for one in order] == [[], [], ["x", "y"]]
    assert [runs(database, one) for one in ("x", "y")] == [[], []]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_many_wait_for_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """They become ready chunk by chunk, and none is left out."""
    monkeypatch.setattr("celery_flows.transitions.release._CHUNK", 3)
    monkeypatch.setattr("celery_flows.store.relay._MOST", 3)
    names = [f"b{number}" for number in range(8)]
    start(database, " ".join(f"a>{name}" for name in names))
    assert runs(database, "a") == names
    assert row(database, "a").releasing_since is None


def test_results_come_before_the_arguments(database: Database) -> None:
    """In the order in which they were planned, whatever the order of ends; over a join as a list of its own."""
    plan = Plan()
    for name in ("b", "a", "x", "y"):
        plan.add(Node(name, Kind.TASK, "shop.score", '["own"]'))
    plan.connect(["b", "a"], ["x", "y"], takes=Takes.LIST)
    start(database, plan)
    for name in ("a", "b"):
        runs(database, name, result=encode(f"of {name}"))
    assert [decode(row(database, one).args) for one in ("x", "y")] == [[["of b", "of a"], "own"]] * 2


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(("tolerate", "fate"), [("1", BatchState.FAILED), ("2", BatchState.COMPLETE)])
def test_what_is_skipped_for_want_of_a_completed_job_counts(
    database: Database, tolerate: str, fate: BatchState
) -> None:
    """The failed job and the one that waited for it are two; a failure branch that is not needed is none."""
    start(database, "a>b a!rescue c!unneeded unneeded>neither", tolerate=tolerate)
    failure = add_callback(database, BATCH, "failure")
    armed = runs(database, "a", FAILED)
    assert armed == (sorted([failure, "rescue"]) if fate is BatchState.FAILED else ["rescue"])
    work_off(database)
    assert tally(database, BATCH)[1] == 2
    assert states(database, "b", "unneeded", "neither") == "skipped skipped skipped"
    assert [row(database, one).wrong for one in ("b", "unneeded", "neither")] == [1, 0, 0]
    assert fate_of(database, BATCH) == (fate, True)


def test_an_unneeded_branch_is_not_the_fate_of_its_batch(database: Database) -> None:
    """A flow whose failure branch was not needed completes, though it tolerates nothing."""
    start(database, "a!rescue rescue>more a>b")
    assert work_off(database) == ["a", "b"]
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


def test_a_join_that_is_skipped_is_nobodys_job(database: Database) -> None:
    """It counts as nothing, and what waited behind it counts."""
    start(database, "a>join b>join join>x join>y", tolerate="3")
    for name, state in (("a", FAILED), ("b", COMPLETE)):
        runs(database, name, state)
    assert states(database, "join", "x", "y") == "skipped skipped skipped"
    assert (tally(database, BATCH)[1], fate_of(database, BATCH)) == (3, (BatchState.COMPLETE, True))


# ---------------------------------------------------------------- flows inside


def test_a_flow_inside_begins_with_its_turn(database: Database) -> None:
    """Its planning is ready then; what waits for it waits for its end, its callbacks included."""
    start(database, "a>sub sub>last", flows={"sub": inner(["complete"])})
    assert fate_of(database, "sub") == (BatchState.PENDING, False)
    [planning] = runs(database, "a")
    assert (row(database, planning).kind, states(database, "sub")) == ("plan", "running")
    assert plans(database, "sub", "x>y") == ["x"]
    assert runs(database, "x") == ["y"]
    [callback] = runs(database, "y")
    assert states(database, "sub", "last") == "running waiting"
    assert runs(database, callback) == ["last"]


def test_a_flow_inside_that_plans_nothing(database: Database) -> None:
    """It is complete with its planning, and the next goes on."""
    start(database, "sub>last", flows={"sub": inner()})
    assert plans(database, "sub") == ["last"]
    assert states(database, "sub") == "complete"


def test_a_flow_inside_whose_turn_does_not_come(database: Database) -> None:
    """It ends with its planning and its callbacks, none of which run, and counts as one that went wrong."""
    start(database, "a>sub sub~last", flows={"sub": inner(["settled"])}, tolerate="2")
    assert runs(database, "a", FAILED) == ["last"]
    assert (states(database, "sub"), fate_of(database, "sub")) == ("skipped", (BatchState.CANCELLED, True))
    assert {one.state for one in rows(database) if one.kind in ("plan", "callback")} == {"skipped"}
    assert (runs(database, "last"), tally(database, BATCH)[1]) == ([], 2)
    assert fate_of(database, BATCH) == (BatchState.COMPLETE, True)


@pytest.mark.parametrize("state", [FAILED, CANCELLED])
def test_a_flow_whose_planning_comes_to_nothing_has_failed(database: Database, state: JobState) -> None:
    """Whatever it tolerates: what it should have run, nobody knows."""
    start(database, "sub>last", flows={"sub": inner(tolerate="5")}, tolerate="5")
    [planning] = rows(database, kind=Kind.PLAN)
    runs(database, planning.id, state)
    assert fate_of(database, "sub") == (BatchState.FAILED, True)
    assert states(database, "sub", "last") == "failed skipped"


# ---------------------------------------------------------------- two at once, twice, and crashes


@on_servers
def test_two_that_end_at_once_release_once(database: Database) -> None:
    """Both look, both find the same job: one makes it ready, the other waits for its lock and finds it moved."""
    start(database, "a>c b>c")
    for one in ("a", "b"):
        takes(database, one)
    ends(database, "a")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("SELECT id FROM flows_jobs WHERE id = 'c' FOR UPDATE")
        first, second = (beside(ends, database, "b") for _ in range(2))
        wait_for_waiter(database, 2)
    ready = [ids(outcome(one)) for one in (first, second)]
    assert sorted(ready) == [[], ["c"]]
    assert row(database, "c").delivery == 1


def test_released_twice_is_released_once(database: Database) -> None:
    """Release bears being called again, and for a job that nobody waits for, that runs, or that is not there."""
    start(database, "a>b c>d e")
    takes(database, "c")
    runs(database, "a")
    before = rows(database)
    for one in ("a", "b", "c", "e", "nobody"):
        assert release(database, one) == ([], False)
    assert rows(database) == before
    assert edges_of(database) == [("a", "b", False), ("c", "d", True)]


@pytest.mark.parametrize("state", [COMPLETE, FAILED])
def test_an_outcome_that_is_refused_releases_nothing(database: Database, state: JobState) -> None:
    """A worker from which the job was taken reports late, while another runs it: what waits goes on waiting."""
    start(database, "a>b a!c a~d")
    claim(database, "a", 1, "first")
    lose(database, "a", "first", LossPolicy("retry", 3), "it was stopped")
    assert claim(database, "a", 2, "second") == 2
    assert settle(database, Ending("a", state, delivery=1, token="first", blocks=True), batch_id=BATCH) == []
    assert states(database, "a", "b", "c", "d") == "running waiting waiting waiting"
    assert {is_open for *_, is_open in edges_of(database)} == {True}


@pytest.mark.parametrize("commits", range(1, 7))
def test_the_sweep_finds_what_a_crash_left(database: Database, commits: int) -> None:
    """After any commit of a release that goes three steps deep, the rest is done by the sweep, once."""
    start(database, "a>b a>join c>join join>d b~e a!f", tolerate="9")
    runs(database, "c")
    takes(database, "a")
    mortal = Mortal(database.url)
    mortal.left = commits
    with pytest.raises(Died):
        ends(mortal, "a")
    mortal.close()
    release_left(database, 0)
    assert states(database, "b", "join", "d", "e", "f") == "ready complete ready waiting skipped"
    assert [row(database, one).delivery for one in "bd"] == [1, 1]
    assert release_left(database, 0) == ([], [])


def test_the_sweep_leaves_alone_who_is_at_it(database: Database) -> None:
    """A job that has just ended is its worker's to see to; after a lease's time it is the sweep's."""
    start(database, "a>b")
    takes(database, "a")
    mortal = Mortal(database.url)
    mortal.left = 1
    with pytest.raises(Died):
        # Told so, a database that can lets b go in the same breath.
        ends(mortal, "a", blocks=False)
    mortal.close()
    assert release_left(database, 60) == ([], [])
    age(database, "releasing_since", ["a"], 61)
    found, ready = release_left(database, 60)
    assert (found, ids(ready)) == (["a"], ["b"])


def test_a_lost_job_releases(database: Database) -> None:
    """Given up for good it has failed: what waited for that runs, the rest is skipped; run again, all wait."""
    start(database, "a>b a!c")
    takes(database, "a")
    lose(database, "a", "token-a", LossPolicy("retry", 3), "it died")
    assert states(database, "a", "b", "c") == "ready waiting waiting"
    takes(database, "a")
    _, ready = lose(database, "a", "token-a", LossPolicy("fail", 3), "it died")
    assert ids(ready) == ["c"]
    assert states(database, "a", "b", "c") == "failed skipped ready"


def test_a_job_that_is_no_longer_free_is_left_waiting(database: Database) -> None:
    """Under the lock it is asked again: an edge that was added or opened since then is waited for."""
    start(database, "a>c b>c")
    runs(database, "a")
    wave = database.transact(settle_waiting, database.tables, ["c"])
    assert (wave.ready, wave.ended, states(database, "c")) == ([], [], "waiting")


# ---------------------------------------------------------------- late results


def test_a_late_success_counts_while_nothing_has_moved(database: Database) -> None:
    """A job was given up, and what waits for it waits for another too: then its success is taken."""
    start(database, "a>c b>c", tolerate="1")
    takes(database, "a")
    lose(database, "a", "token-a", LossPolicy("fail", 3), "it was stopped")
    assert states(database, "a", "c") == "failed waiting"
    ends(database, "a")
    assert states(database, "a", "c") == "complete waiting"
    assert runs(database, "b") == ["c"]
    assert tally(database, BATCH)[1] == 0


def test_a_late_success_comes_too_late(database: Database) -> None:
    """What waited for it was skipped, or a failure branch has begun: the failure stays."""
    start(database, "a>b a!c", tolerate="9")
    takes(database, "a")
    lose(database, "a", "token-a", LossPolicy("fail", 3), "it was stopped")
    assert ends(database, "a") == []
    assert states(database, "a", "b", "c") == "failed skipped ready"
    assert are(database, JobState.READY) == ["c"]


def test_edges_are_of_one_batch(database: Database) -> None:
    """A plan's edges are written with its jobs, each once, open."""
    plan = Plan()
    for name in ("a", "b"):
        plan.add(Node(name, Kind.TASK, "shop.score"))
    plan.edges.append(Edge("a", "b", Condition.SETTLED))
    start(database, plan)
    assert edges_of(database) == [("a", "b", True)]
    assert fate_of(database, BATCH) == RUNNING
