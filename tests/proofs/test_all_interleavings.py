"""All schedules of two transitions, and those of three with few switches: minutes each, for `make exhaustive`."""

from __future__ import annotations

from itertools import combinations

import pytest
from locks import on_servers, on_sqlite
from proofs import actors
from proofs.pairs import PAIRS, THREE, playing
from proofs.stepping import every_schedule, schedules_with_switches

from celery_flows.store.database import Database

pytestmark = pytest.mark.timeout(3600)


@on_servers
@pytest.mark.parametrize("name", PAIRS)
def test_all_schedules_of_two(database: Database, name: str) -> None:
    """All interleavings of two transitions, at each read, lock and commit."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts) as play:
        assert len(list(every_schedule(play, 100_000))) > 5


@on_servers
@pytest.mark.parametrize("name", PAIRS)
def test_few_switches_of_two_at_each_statement(database: Database, name: str) -> None:
    """All schedules of two transitions with at most three switches, at each single statement."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts, is_fine=True) as play:
        assert len(list(schedules_with_switches(play, 2, 3))) > 5


@on_servers
@pytest.mark.parametrize("names", [*combinations(THREE, 3)], ids="-".join)
def test_few_switches_of_three(database: Database, names: tuple[str, ...]) -> None:
    """All schedules of three transitions with at most two switches."""
    with playing(database, actors.two_run, [THREE[name] for name in names]) as play:
        assert len(list(schedules_with_switches(play, 3, 2))) > 5


@on_sqlite
@pytest.mark.parametrize("name", PAIRS)
def test_all_schedules_of_two_on_sqlite(database: Database, name: str) -> None:
    """All orders of the transactions of two, which there take turns as a whole."""
    make, *acts = PAIRS[name]
    with playing(database, make, acts) as play:
        assert len(list(every_schedule(play, 10_000))) > 1
