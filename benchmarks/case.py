"""What a benchmark case is: sides that are run in turns, and questions about the figures that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.services import World

#: What one run of a side measured, by name; the name says the unit.
Figures = Mapping[str, float]

#: Runs one side with so many jobs.
Run = Callable[[World, int], Figures]


@dataclass(frozen=True)
class Target:
    """A promise about a ratio, or about a figure that stands alone."""

    limit: float
    is_least: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value >= self.limit if self.is_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.limit:g}"


def at_most(limit: float) -> Target:
    """A target that is kept from below."""
    return Target(limit)


def at_least(limit: float) -> Target:
    """A target that is kept from above."""
    return Target(limit, is_least=True)


@dataclass(frozen=True)
class Of:
    """A figure of a side."""

    side: str
    figure: str


@dataclass(frozen=True)
class Question:
    """One line of the table: a figure, by another, against a target."""

    ours: Of
    #: What it is divided by, run for run; None: it stands alone.
    peer: Of | None = None
    #: None: it is only reported. By broker, where that makes a difference.
    target: Target | Mapping[str, Target] | None = None
    #: What the upper end of the ratios' 95 % interval must stay under as well.
    upper_under: float | None = None

    @property
    def figure_name(self) -> str:
        """What is in the table's column of figures."""
        return self.ours.figure if self.ours.side == "ours" else f"{self.ours.figure}, {self.ours.side}"

    @property
    def peer_name(self) -> str:
        """What is in the table's column of peers."""
        if self.peer is None:
            return ""
        return self.peer.side if self.peer.figure == self.ours.figure else self.peer.figure

    def target_on(self, broker: str) -> Target | None:
        """The target on a broker."""
        return self.target.get(broker) if isinstance(self.target, Mapping) else self.target


def beside(figure: str, **peers: Target | Mapping[str, Target] | None) -> list[Question]:
    """Compare one figure of ours with that of each peer; an underscore in a peer's name is a blank."""
    sides = {name.replace("_", " "): target for name, target in peers.items()}
    return [Question(Of("ours", figure), Of(side, figure), target) for side, target in sides.items()]


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    name: str
    #: What is measured, in a sentence.
    about: str
    #: Jobs per run, if nobody says otherwise.
    n: int
    #: By name; "ours" is celery-flows.
    sides: Mapping[str, Run]
    questions: Sequence[Question]
    #: How often each side is run at most: once, where a run takes many minutes.
    most_repetitions: int | None = None
    #: Whether a small run of each side comes first.
    warms_up: bool = True
