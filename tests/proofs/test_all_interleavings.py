"""All schedules of two transitions, and some of three: up to minutes each, for `make exhaustive`."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from locks import on_servers, on_sqlite
from proofs import actors
from proofs.pairs import PAIRS, THREE, playing
from proofs.schedules import every_schedule, schedules_with_switches, some_with_switches

from celery_flows.store.database import Database

pytestmark = pytest.mark.timeout(3600)

#: No pair has so many that differ.
MOST = 20_000
#: Schedules of each pair or three, where there are too many for all.
SOME = 60


@on_servers
@pytest.mark.parametrize("name", PAIRS)
def test_all_schedules_of_two(database: Database, name: str) -> None:
    """All interleavings of two transitions, at each read, lock and commit."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts) as play:
        assert 1 < len(list(every_schedule(play, MOST))) < MOST


@on_servers
@pytest.mark.parametrize("name", PAIRS)
def test_one_switch_of_two_at_each_statement(database: Database, name: str) -> None:
    """All schedules of two transitions in which one is put off once, at each single statement."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts, is_fine=True) as play:
        assert len(list(schedules_with_switches(play, 2, 1))) > 5


@on_servers
@pytest.mark.parametrize("name", PAIRS)
def test_few_switches_of_two_at_each_statement(database: Database, name: str) -> None:
    """Of those with at most three switches, which are thousands, some, others each time."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts, is_fine=True) as play:
        assert len(list(some_with_switches(play, 2, 3, SOME, seed()))) == SOME


@on_servers
@pytest.mark.parametrize("names", [*combinations(THREE, 3)], ids="-".join)
def test_few_switches_of_three(database: Database, names: tuple[str, ...]) -> None:
    """Of the schedules of three transitions with at most two switches, some, others each time."""
    with playing(database, actors.two_run, [THREE[name] for name in names]) as play:
        assert len(list(some_with_switches(play, 3, 2, SOME, seed()))) == SOME


def seed() -> int:
    """Chooses what is played, and is printed where it fails."""
    chosen = random.randrange(1_000_000)
    print(f"seed {chosen}")
    return chosen


@on_sqlite
@pytest.mark.parametrize("name", PAIRS)
def test_all_schedules_of_two_on_sqlite(database: Database, name: str) -> None:
    """All orders of the transactions of two, which there take turns as a whole."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts) as play:
        assert 1 < len(list(every_schedule(play, MOST))) < MOST
