"""Ours and its peers, in turns: a ratio is of two runs beside one another, never of two days."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Final

from benchmarks.case import Case, Figures, Question
from benchmarks.services import World

#: Student's t for a two-sided 95 % interval, by degrees of freedom; from the last one on it is the normal 1.96.
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
_NORMAL: Final = 1.96


@dataclass(frozen=True)
class Row:
    """The answer to one question."""

    case: str
    figure: str
    #: What it is compared with; empty: nothing.
    peer: str
    #: What each run gave.
    ours: Sequence[float]
    theirs: Sequence[float]
    #: Ours by theirs, run for run; where there is no peer, ours itself.
    values: Sequence[float]
    #: The middle one of them.
    value: float
    #: Where the true ratio is, in 95 of 100 such measurements; None where it can't be said.
    interval: tuple[float, float] | None
    #: Whether the target says something of it.
    bounds_interval: bool
    target: str
    #: None: there is no target.
    is_met: bool | None


def compare(case: Case, world: World, n: int, repetitions: int) -> list[Row]:
    """Run all sides of a case in turns, after one small run of each to warm up, and answer its questions."""
    if case.warms_up:
        for run in case.sides.values():
            run(world, max(1, n // 20))
    figures: dict[str, list[Figures]] = {side: [] for side in case.sides}
    for repetition in range(min(repetitions, case.most_repetitions or repetitions)):
        # There and back, so that what changes in the course of the time concerns all alike.
        for side in list(case.sides)[:: -1 if repetition % 2 else 1]:
            figures[side].append(case.sides[side](world, n))
    return [_answer(case.name, question, figures, world.broker) for question in case.questions]


def _answer(case: str, question: Question, figures: dict[str, list[Figures]], broker: str) -> Row:
    ours = [one[question.ours.figure] for one in figures[question.ours.side]]
    peer = question.peer
    theirs = [] if peer is None else [one[peer.figure] for one in figures[peer.side]]
    values = ours if peer is None else [our / their for our, their in zip(ours, theirs, strict=True)]
    value, interval = median(values), None if peer is None else _interval(values)
    target, upper = question.target_on(broker), question.upper_under
    is_met = None if target is None else target.is_met(value)
    if is_met and upper is not None and interval is not None:
        is_met = interval[1] < upper
    said = "" if target is None else f"{target}" if upper is None else f"{target}, 95 % < {upper:g}"
    return Row(
        case,
        question.figure_name,
        question.peer_name,
        ours,
        theirs,
        values,
        value,
        interval,
        upper is not None,
        said,
        is_met,
    )


def _interval(ratios: Sequence[float]) -> tuple[float, float] | None:
    """Of the geometric mean, as a ratio and its inverse must say the same."""
    if len(ratios) < 2 or min(ratios) <= 0:
        return None
    logs = [math.log(ratio) for ratio in ratios]
    freedom = len(logs) - 1
    t = _T[freedom - 1] if freedom <= len(_T) else _NORMAL
    margin = t * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - margin), math.exp(fmean(logs) + margin)
