"""However the statements of two transitions mingle, no batch is stranded, finished falsely, or announced twice."""

from __future__ import annotations

from itertools import combinations_with_replacement, islice

import pytest
from locks import on_servers, on_sqlite
from proofs.actors import Scene
from proofs.pairs import DANGEROUS, OTHERS, PAIRS, playing
from proofs.schedules import every_schedule, schedules_with_switches, some_schedules

from celery_flows.store.database import Database

#: In each run the same.
SEED = 20260101
#: Schedules of a pair, of one that is dangerous and of any other.
MOST, SOME = 20, 1


def test_each_meets_each() -> None:
    """Of what may happen to a batch no two kinds are left out."""
    kinds = ("end", "add", "sweep", "cancel", "reopen", "advance")
    left = [
        pair
        for pair in combinations_with_replacement(kinds, 2)
        if not {"-".join(pair), "-".join(pair[::-1])} & {*PAIRS}
    ]
    assert left == []


@on_servers
@pytest.mark.parametrize("name", DANGEROUS)
def test_few_switches_where_it_is_dangerous(database: Database, name: str) -> None:
    """Schedules of two transitions with at most two switches, at each read, lock and commit."""
    make, *acts = DANGEROUS[name]
    with playing(database, make, acts) as play:
        assert len(list(islice(schedules_with_switches(play, 2, 2), MOST))) > 5


@on_servers
def test_some_schedules_of_two_others(database: Database) -> None:
    """Of the other pairs some interleavings, at each single statement, the same in each run."""
    for name, (make, *acts) in OTHERS.items():
        with playing(database, make, acts, is_fine=True) as play:
            for _ in some_schedules(play, SOME, SEED + len(name)):
                pass
        Scene.empty(database)


@on_sqlite
@pytest.mark.parametrize("name", DANGEROUS)
def test_all_schedules_of_two_on_sqlite(database: Database, name: str) -> None:
    """There each transaction is a step, as BEGIN IMMEDIATE lets one write at a time: all orders of steps."""
    make, *acts = DANGEROUS[name]
    with playing(database, make, acts) as play:
        assert len(list(every_schedule(play, MOST))) > 1
