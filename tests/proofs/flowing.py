"""What two do at once to a flow: scenes with edges, those who act in them, and what must hold then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from apps import rows
from graphs import adds, grows, inner, runs, start, takes
from graphs import ends as ends_here
from proofs import actors
from proofs.actors import BATCH, Scene
from proofs.schedules import schedules_with_switches
from proofs.stepping import Act, Course, Schedule, Stage
from proofs.world import Died, Mortal
from scenes import add_callback

from celery_flows.errors import JobTaken
from celery_flows.states import TERMINAL, Condition, Event, JobState
from celery_flows.store.database import Database
from celery_flows.store.publishing import ReadyJob
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.recover import release_left
from celery_flows.transitions.release import release, release_all
from celery_flows.transitions.reopen import Mode, reopen

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED

Make = Callable[[Database], None]


# ---------------------------------------------------------------- scenes


def scene(edges: str, *running: str, **options: Any) -> Make:
    """A flow in which these jobs run, with a callback for each event."""

    def make(database: Database) -> None:
        start(database, edges, batch=BATCH, **options)
        for event in Event:
            add_callback(database, BATCH, event)
        for job in running:
            takes(database, job)

    return make


two_meet = scene("one>join two>join join>x join>y", "one", "two")
two_are_waited_for = scene("one>last two>last", "one", "two")
one_is_waited_for = scene("one>last one!rescue", "one", tolerate="9")
any_end_is_waited_for = scene("one~last", "one", tolerate="9")
one_runs_beside = scene("one two~last", "one", "two", tolerate="9")
a_flow_is_next = scene("one>sub sub>last", "one", flows={"sub": inner(["settled"])})


def left(database: Database) -> None:
    """A job has ended, and its worker died before it saw to what waits."""
    one_is_waited_for(database)
    dies_after_the_outcome(database, "one")


def dies_after_the_outcome(database: Database, job: str) -> None:
    """Let a worker write an outcome, and no more."""
    mortal = Mortal(database.url)
    mortal.left = 1
    try:
        ends_here(mortal, job, blocks=False)
    except Died:
        return
    finally:
        mortal.close()
    raise AssertionError("it lived")


def over(database: Database) -> None:
    """A flow that has failed, and is over."""
    scene("one>last one>join two>join join>x join>y")(database)
    runs(database, "two")
    runs(database, "one", FAILED)


# ---------------------------------------------------------------- actors


def adds_behind(job: str, when: Condition = Condition.COMPLETE) -> Act:
    """A running job adds one behind another."""
    return lambda database: adds(database, "two", "more", [job], when, batch=BATCH)


def grows_one(database: Database) -> list[ReadyJob]:
    """A running job adds one by a block."""
    grows(database, "one", "more", BATCH)
    return []


def sweeps(database: Database) -> list[ReadyJob]:
    """The sweep releases what was left."""
    return release_left(database, 0)[1]


def releases(job: str) -> Act:
    """Somebody who was slow sees to what waited for a job."""

    def act(database: Database) -> list[ReadyJob]:
        ready, went_wrong = release(database, job)
        return [*ready, *advance(database, BATCH, went_wrong=went_wrong)]

    return act


def retries(mode: Mode) -> Act:
    """A user retries, and releases what is to be released."""

    def act(database: Database) -> list[ReadyJob]:
        ready: list[ReadyJob] = []
        for batch in reopen(database, BATCH, mode):
            ready += release_all(database, batch)
            ready += advance(database, batch)
        return ready

    return act


ends, loses, cancels = actors.ends, actors.loses, actors.cancels

#: A scene, and those who act at once: where a release meets what may change it.
PAIRS: Final[dict[str, tuple[Make, Act, Act]]] = {
    "join-end-end": (two_meet, ends("one"), ends("two")),
    "join-end-fail": (two_meet, ends("one"), ends("two", FAILED)),
    "end-end": (two_are_waited_for, ends("one"), ends("two")),
    "end-end-untold": (two_are_waited_for, ends("one", is_told=False), ends("two", is_told=False)),
    "end-grow": (any_end_is_waited_for, ends("one"), grows_one),
    "end-add": (one_runs_beside, ends("one"), adds_behind("one")),
    "fail-add": (one_runs_beside, ends("one", FAILED), adds_behind("one")),
    "fail-rescue": (one_runs_beside, ends("one", FAILED), adds_behind("one", Condition.FAILURE)),
    "end-cancel": (a_flow_is_next, ends("one"), cancels()),
    "fail-cancel": (a_flow_is_next, ends("one", FAILED), cancels()),
    "end-sweep": (one_is_waited_for, ends("one"), sweeps),
    "sweep-sweep": (left, sweeps, sweeps),
    "sweep-release": (left, sweeps, releases("one")),
    "sweep-cancel": (left, sweeps, cancels()),
    "sweep-add": (left, sweeps, lambda database: adds(database, None, "more", ["one"], batch=BATCH)),
    "release-retry": (over, releases("one"), retries(Mode.FAILED_AND_DOWNSTREAM)),
    "release-retry-all": (over, releases("two"), retries(Mode.ALL)),
    "grow-lose": (any_end_is_waited_for, grows_one, loses("one")),
    "grow-cancel": (any_end_is_waited_for, grows_one, cancels()),
    "lose-late": (one_is_waited_for, loses("one"), ends("one")),
    "lose-late-join": (two_meet, loses("one"), ends("one")),
    "lose-end": (two_are_waited_for, loses("one"), ends("two")),
}

#: Who may be three at once, on two running jobs before a join.
THREE: Final[dict[str, Act]] = {
    "end": ends("one"),
    "fail": ends("two", FAILED),
    "add": adds_behind("one"),
    "sweep": sweeps,
    "cancel": cancels(),
    "lose": loses("two"),
    "grow": grows_one,
}


# ---------------------------------------------------------------- what must hold


def faults(scene: Scene, course: Course) -> list[str]:
    """What went wrong: in the order, by a release that was forgotten or made twice, or with the batch."""
    database = scene.database
    ready = Counter((job.id, job.delivery) for result in course.results for job in result or ())
    found = [f"released twice: {job}" for job, number in ready.items() if number > 1]
    found += [f"left to the sweep: {job.id}" for job in rows(database) if job.releasing_since is not None]
    found += out_of_order(database)
    refused = [None if isinstance(error, JobTaken) else error for error in course.errors]
    others = actors.faults(scene, replace(course, errors=refused))
    # A flow whose turn did not come has no event either.
    unbegun = [f"{batch} is cancelled, and armed" for batch in not_begun(database)]
    found += [one for one in others if not one.startswith(tuple(unbegun))]
    return found + [f"{job.id} is {job.state}" for job in rows(database) if job.state not in TERMINAL]


def goes_wrong(database: Database, make: Make, acts: Sequence[Act]) -> bool:
    """Whether something is left wrong where one of the two is put off once, at any of its statements."""
    scene, stage = Scene.of(database, make), Stage(database, len(acts), is_fine=True)

    def play(schedule: Schedule) -> Course:
        scene.begin()
        return stage.plays(acts, schedule)

    try:
        return any(faults(scene, course) for course in schedules_with_switches(play, len(acts), 1))
    finally:
        stage.close()


def not_begun(database: Database) -> list[str]:
    """The flows inside whose turn did not come."""
    batches = database.tables.batches
    with database.reading() as connection:
        return list(connection.scalars(sa.select(batches.c.id).where(batches.c.started_at.is_(None))))


def out_of_order(database: Database) -> list[str]:
    """Jobs that have begun though what they wait for has not ended, or not so; or that wait for nothing."""
    edges = database.tables.edges
    with database.reading() as connection:
        waits = connection.execute(sa.select(edges)).all()
    jobs = {job.id: job for job in rows(database)}
    idle = (JobState.WAITING, JobState.SKIPPED, JobState.CANCELLED)
    met = {Condition.COMPLETE: (COMPLETE,), Condition.FAILURE: (FAILED,), Condition.SETTLED: TERMINAL}
    found = [
        f"{one.dependent_id} is {jobs[one.dependent_id].state}, {one.job_id} {jobs[one.job_id].state}"
        for one in waits
        if jobs[one.dependent_id].state not in idle and jobs[one.job_id].state not in met[Condition(one.condition)]
    ]
    blocked = {one.dependent_id for one in waits if jobs[one.job_id].outcome is None}
    behind = {one.dependent_id for one in waits}
    waiting = {job.id for job in jobs.values() if job.state == JobState.WAITING}
    return found + [f"{one} waits for nothing" for one in (behind & waiting) - blocked]
