"""Which schedules are played: all that differ, all with few switches, or some."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from proofs.footprints import Footprint
from proofs.stepping import Course, Schedule, Step

Play = Callable[[Schedule], Course]


@dataclass
class _Choice:
    """A moment at which somebody is to go on."""

    #: Who can; nobody where it does not matter.
    ready: Sequence[int]
    #: Whose step was played in another order already, with all that can follow.
    asleep: dict[int, Footprint]
    chosen: int
    #: Those whose step was tried here, and what it came by.
    tried: dict[int, Footprint] = field(default_factory=dict)

    def follow(self, step: Step) -> dict[int, Footprint]:
        """Who sleeps on after the step that was made: whose own step shares nothing with it."""
        if not step.is_over:
            # What it will have done is not known yet.
            return {}
        sleepers = self.asleep | self.tried
        return {who: one for who, one in sleepers.items() if who != step.who and not one.meets(step.footprint)}

    @property
    def left(self) -> list[int]:
        """Who is still to be tried here."""
        return [who for who in self.ready if who not in self.tried and who not in self.asleep]


class _Walk:
    """A schedule: the choices made before as far as they go, then the first that is left at each."""

    def __init__(self, path: list[_Choice]) -> None:
        self.path = path

    def __call__(self, steps: Sequence[Step], ready: Sequence[int]) -> int:
        at = len(steps)
        if at < len(self.path):
            if self.path[at].chosen in ready:
                return self.path[at].chosen
            # The database chose another victim than last time.
            del self.path[at:]
        self.path.append(self._choice(steps, ready))
        return self.path[-1].chosen

    def _choice(self, steps: Sequence[Step], ready: Sequence[int]) -> _Choice:
        if not self.path:
            return _Choice(ready, {}, ready[0])
        asleep = self.path[-1].follow(steps[-1])
        awake = [who for who in ready if who not in asleep]
        if awake and self.path[-1].ready:
            return _Choice(ready, asleep, awake[0])
        # What follows has been played: it is only brought to its end.
        return _Choice([], {}, ready[0])


def every_schedule(play: Play, limit: int) -> Iterator[Course]:
    """All schedules there are, depth first, up to a number of them.

    Of those in which only steps changed places that share nothing, one is played (sleep sets; Godefroid,
    "Partial-Order Methods for the Verification of Concurrent Systems", 1996).
    """
    path: list[_Choice] = []
    for _ in range(limit):
        walk = _Walk(path)
        course = play(walk)
        yield course
        path = walk.path
        for choice, step in zip(path, course.steps, strict=True):
            choice.tried[step.who] = step.footprint
        while path and not path[-1].left:
            path.pop()
        if not path:
            return
        path[-1].chosen = path[-1].left[0]


def some_schedules(play: Play, number: int, seed: int) -> Iterator[Course]:
    """So many schedules, at random by a seed."""
    dice = random.Random(seed)
    for _ in range(number):
        yield play(lambda _, ready: dice.choice(list(ready)))


def schedules_with_switches(play: Play, actors: int, switches: int) -> Iterator[Course]:
    """All schedules in which one who could go on is put off at most so many times."""
    waiting: list[list[tuple[int, int]]] = [[(0, first)] for first in range(actors)]
    while waiting:
        turns = waiting.pop()
        course = play(_in_turns(turns))
        yield course
        if len(turns) <= switches:
            for at in range(turns[-1][0] + 1, len(course.steps)):
                step, before = course.steps[at], course.steps[at - 1].who
                # Where the one before can't go on, it is no switch that another does.
                if before in step.ready:
                    waiting += [[*turns, (at, other)] for other in step.ready if other != step.who]


def some_with_switches(play: Play, actors: int, switches: int, number: int, seed: int) -> Iterator[Course]:
    """So many of them, at random by a seed."""
    dice = random.Random(seed)
    length = 1
    for _ in range(number):
        moments = sorted(dice.randrange(1, length + 1) for _ in range(switches))
        course = play(_in_turns([(at, dice.randrange(actors)) for at in (0, *moments)]))
        yield course
        length = max(length, len(course.steps))


def _in_turns(turns: Sequence[tuple[int, int]]) -> Schedule:
    """From a step on it is somebody's turn, as long as he can go on."""

    def choose(steps: Sequence[Step], ready: Sequence[int]) -> int:
        whose = [who for at, who in turns if at <= len(steps)]
        return next((who for who in reversed(whose) if who in ready), ready[0])

    return choose
