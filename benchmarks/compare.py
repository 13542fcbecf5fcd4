"""Ours and a peer, in turns: a ratio is of two runs beside one another, never of two days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from benchmarks.services import World

Run = Callable[[World, int], float]


class Case(Protocol):
    """A module that measures one thing."""

    #: Peers by name; the one named "ours" is celery-flows. Each run returns seconds.
    SIDES: Mapping[str, Run]


@dataclass(frozen=True)
class Row:
    """Ours beside one peer."""

    case: str
    peer: str
    #: Jobs per second, the median.
    ours_rate: float
    peer_rate: float
    #: Our rate by the peer's, of each pair of runs.
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """The median: above 1 ours is faster."""
        return median(self.ratios)


def compare(name: str, case: Case, world: World, n: int, repetitions: int) -> list[Row]:
    """Measure all sides of a case, in turns, after one small run of each to warm up."""
    prepare: Any = getattr(case, "prepared", None)
    seconds: dict[str, list[float]] = {side: [] for side in case.SIDES}
    with prepare(world) if prepare else nullcontext():
        for run in case.SIDES.values():
            run(world, max(1, n // 20))
        for _ in range(repetitions):
            for side, run in case.SIDES.items():
                seconds[side].append(run(world, n))
    return [_row(name, peer, n, seconds) for peer in case.SIDES if peer != "ours"]


def _row(name: str, peer: str, n: int, seconds: Mapping[str, list[float]]) -> Row:
    ours, theirs = seconds["ours"], seconds[peer]
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    return Row(name, peer, n / median(ours), n / median(theirs), ratios)
