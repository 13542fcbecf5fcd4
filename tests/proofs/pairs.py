"""Who acts at once in which scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from proofs import actors
from proofs.actors import Scene, faults
from proofs.stepping import Act, Course, Schedule, Stage

from celery_flows.states import JobState
from celery_flows.store.database import Database

FAILED = JobState.FAILED

#: A scene, and those who act at once.
Pair = tuple[Callable[[Database], None], Act, Act]

#: Where the ending of a batch meets what may change it: all schedules, each run.
DANGEROUS: dict[str, Pair] = {
    "end-end": (actors.two_run, actors.ends("one"), actors.ends("two")),
    "end-add": (actors.one_is_left, actors.ends("one"), actors.adds),
    "end-listen": (actors.one_is_left, actors.ends("one", FAILED), actors.listens("failure")),
    "lose-late": (actors.one_is_left, actors.loses("one"), actors.ends("one")),
    "close-end": (actors.one_is_left_of_a_stream, actors.closes, actors.ends("one")),
}

#: The others: all in `make exhaustive`, some of each in each run.
OTHERS: dict[str, Pair] = {
    "fail-fail": (actors.two_run, actors.ends("one", FAILED), actors.ends("two", FAILED)),
    "end-fail": (actors.two_run, actors.ends("one"), actors.ends("two", FAILED)),
    "tolerated-fail": (actors.two_run_tolerated, actors.ends("one", FAILED), actors.ends("two", FAILED)),
    "fail-add": (actors.one_is_left, actors.ends("one", FAILED), actors.adds),
    "end-cancel": (actors.one_is_left, actors.ends("one"), actors.cancels()),
    "fail-cancel": (actors.two_run, actors.ends("one", FAILED), actors.cancels()),
    "end-sweep": (actors.one_is_left, actors.ends("one"), actors.sweeps),
    "end-advance": (actors.one_is_left, actors.ends("one"), actors.advances),
    "end-reopen": (actors.one_is_left, actors.ends("one"), actors.reopens()),
    "fail-reopen": (actors.one_is_left_the_other_failed, actors.ends("one"), actors.reopens()),
    "end-lose": (actors.two_run, actors.ends("one"), actors.loses("two")),
    "lose-lose": (actors.one_is_left, actors.loses("one"), actors.loses("one")),
    "lose-add": (actors.one_is_left, actors.loses("one"), actors.adds),
    "lose-cancel": (actors.one_is_left, actors.loses("one", "retry"), actors.cancels()),
    "again-late": (actors.one_is_left, actors.loses("one", "retry"), actors.ends("one")),
    "add-add": (actors.undecided, actors.adds, actors.adds_as("another")),
    "add-listen": (actors.one_is_left, actors.adds, actors.listens("complete")),
    "add-sweep": (actors.undecided, actors.adds, actors.sweeps),
    "add-advance": (actors.undecided, actors.adds, actors.advances),
    "add-cancel": (actors.one_is_left, actors.adds, actors.cancels()),
    "add-reopen": (actors.finished, actors.adds, actors.reopens()),
    "sweep-sweep": (actors.undecided, actors.sweeps, actors.sweeps),
    "sweep-cancel": (actors.undecided, actors.sweeps, actors.cancels()),
    "sweep-reopen": (actors.undecided, actors.sweeps, actors.reopens()),
    "sweep-advance": (actors.undecided, actors.sweeps, actors.advances),
    "advance-advance": (actors.undecided, actors.advances, actors.advances),
    "advance-cancel": (actors.undecided, actors.advances, actors.cancels()),
    "advance-reopen": (actors.undecided, actors.advances, actors.reopens()),
    "cancel-cancel": (actors.two_run, actors.cancels(), actors.cancels()),
    "cancel-reopen": (actors.undecided, actors.cancels(), actors.reopens()),
    "reopen-reopen": (actors.finished, actors.reopens(), actors.reopens()),
    "try-cancel": (actors.one_is_left, actors.tries_again("one"), actors.cancels()),
    "try-lose": (actors.one_is_left, actors.tries_again("one"), actors.loses("one")),
    "try-sweep": (actors.one_is_left, actors.tries_again("one"), actors.sweeps),
    "try-fail": (actors.two_run, actors.tries_again("one"), actors.ends("two", FAILED)),
    "listen-sweep": (actors.undecided, actors.listens("settled"), actors.sweeps),
    "abandon-end": (actors.one_is_left_of_a_stream, actors.abandons, actors.ends("one")),
    "abandon-close": (actors.one_is_left_of_a_stream, actors.abandons, actors.closes),
    "abandon-cancel": (actors.one_is_left_of_a_stream, actors.abandons, actors.cancels()),
    "child-parent": (actors.nested, actors.ends("one"), actors.ends("own", batch=actors.PARENT)),
    "child-fails-parent": (actors.nested, actors.ends("one", FAILED), actors.ends("own", batch=actors.PARENT)),
    "child-cancel": (actors.nested, actors.ends("one"), actors.cancels(actors.PARENT)),
    "child-lost-cancel": (actors.nested, actors.loses("one"), actors.cancels(actors.PARENT)),
}
PAIRS = DANGEROUS | OTHERS

#: Who may be three at once, on two running jobs.
THREE: dict[str, Act] = {
    "end": actors.ends("one"),
    "fail": actors.ends("two", FAILED),
    "add": actors.adds,
    "sweep": actors.sweeps,
    "cancel": actors.cancels(),
    "reopen": actors.reopens(),
    "lose": actors.loses("two"),
    "advance": actors.advances,
}


@contextmanager
def playing(
    database: Database,
    make: Callable[[Database], None],
    acts: Sequence[Act],
    *,
    is_fine: bool = False,
    check: Callable[[Scene, Course], list[str]] = faults,
) -> Iterator[Callable[[Schedule], Course]]:
    """Plays a scene from its beginning, and checks its end."""
    scene = Scene.of(database, make)
    stage = Stage(database, len(acts), is_fine=is_fine)

    def play(schedule: Schedule) -> Course:
        scene.begin()
        course = stage.plays(acts, schedule)
        found = check(scene, course)
        assert found == [], f"{found}\n{course}"
        return course

    try:
        yield play
    finally:
        stage.close()
