"""However two that act on a flow mingle, nothing is released twice, too early or never."""

from __future__ import annotations

import random
from itertools import combinations, islice

import pytest
from locks import on_servers, on_sqlite
from proofs.actors import Scene
from proofs.exhaustive import EXHAUSTIVE
from proofs.flowing import PAIRS, THREE, faults, two_meet
from proofs.pairs import playing
from proofs.schedules import every_schedule, schedules_with_switches, some_schedules, some_with_switches

from celery_flows.store.database import Database

pytestmark = pytest.mark.timeout(3600 if EXHAUSTIVE else 120)

#: Schedules of each pair: all that differ; or some, of most pairs one. And of each three.
MOST = 20_000 if EXHAUSTIVE else 8
SOME = 60 if EXHAUSTIVE else 1
SEED = 20260101

#: Where it is most dangerous, by the rule that would be broken.
DANGEROUS = ("join-end-end", "end-grow", "end-add", "end-cancel", "release-retry", "grow-lose", "lose-late-join")


@on_servers
@pytest.mark.parametrize("name", PAIRS if EXHAUSTIVE else DANGEROUS)
def test_two_at_once(database: Database, name: str) -> None:
    """Schedules with few switches, and with time all that differ, at each read, lock and commit."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts, check=faults) as play:
        courses = every_schedule(play, MOST) if EXHAUSTIVE else schedules_with_switches(play, 2, 2)
        assert 1 < len(list(islice(courses, MOST))) <= MOST


@on_servers
def test_two_others_at_once(database: Database) -> None:
    """Of each pair some schedules, at each single statement."""
    for name, (make, *acts) in PAIRS.items():
        with playing(database, make, acts, is_fine=True, check=faults) as play:
            assert len(list(some_schedules(play, SOME, SEED + len(name)))) == SOME
        Scene.empty(database)


@on_sqlite
@pytest.mark.parametrize("name", PAIRS)
def test_two_at_once_on_sqlite(database: Database, name: str) -> None:
    """There each transaction is a step: all orders of steps, or the first of them."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts, check=faults) as play:
        assert len(list(every_schedule(play, MOST))) > 1


@on_servers
def test_three_at_once(database: Database) -> None:
    """Of the schedules of three with at most two switches, some."""
    every = list(combinations(THREE, 3))
    for names in every if EXHAUSTIVE else random.Random(SEED).sample(every, 8):
        with playing(database, two_meet, [THREE[name] for name in names], check=faults) as play:
            assert len(list(some_with_switches(play, 3, 2, SOME, SEED))) == SOME
        Scene.empty(database)
