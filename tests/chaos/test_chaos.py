"""Several workers under a stream of batches, and a killer: at the end everything is as if nothing had been.

CHAOS_SECONDS is how long the killer goes on, and CHAOS_SEED which faults it does in which order.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Final

import pytest
from acceptance.running import wait_for
from chaos.killer import FAULTS, RESTARTS, Killer
from chaos.place import Place, Services, open_place
from chaos.reckoning import is_over, problems, summary, what_is_left
from chaos.servers import OwnPostgres, own_postgres

from celery_flows.store import schema
from celery_flows.store.database import Database

#: Without it, the run is short.
SECONDS: Final = float(os.environ.get("CHAOS_SECONDS") or 20)

IS_LONG: Final = bool(os.environ.get("CHAOS_SECONDS"))

SEED: Final = os.environ.get("CHAOS_SEED") or str(random.SystemRandom().randrange(10**9))

#: Seconds within which all that was under way must come to its end: what was purged again and again waits
#: longer each time.
PATIENCE: Final = 120.0

#: Seconds between two looks at the crews.
_TICK: Final = 0.05


@pytest.fixture
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Place]]:
    """Redis and RabbitMQ, each with a database of its own; which one is by the seed."""
    databases = ["postgresql", "mariadb"]
    random.Random(SEED).shuffle(databases)
    with ExitStack() as stack:
        own = stack.enter_context(own_postgres()) if IS_LONG else None
        opened = []
        for broker, database in zip(("redis", "rabbitmq"), databases, strict=True):
            services = _services(request, broker, database, own)
            scratch = tmp_path / broker
            scratch.mkdir()
            size = (3, 2) if IS_LONG else (2, 1)
            opened.append(stack.enter_context(open_place(services, scratch, SEED, *size)))
        yield opened


def _services(request: pytest.FixtureRequest, broker: str, database: str, own: OwnPostgres | None) -> Services:
    broker_url = request.getfixturevalue(f"{broker}_url")
    if database == "mariadb":
        return Services(broker, broker_url, database, request.getfixturevalue("mysql_url"))
    if own is None:
        return Services(broker, broker_url, database, request.getfixturevalue("postgres_url"))
    return Services(broker, broker_url, database, _upgraded(own.url), own)


def _upgraded(url: str) -> str:
    database = Database(url)
    schema.upgrade(database)
    database.close()
    return url


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], None]]:
    """Prints for the person who runs it, whatever pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\nchaos: {line}", end="", flush=True)

    yield say
    say("\n")


@pytest.mark.timeout(SECONDS + 2 * PATIENCE)
def test_everything_ends_whatever_happens(places: list[Place], say: Callable[[str], None]) -> None:
    """Every batch is finished, every callback's effect happened once, and no row is left behind."""
    say(f"{SECONDS:g} s, CHAOS_SEED={SEED}")
    for place in places:
        place.crew.await_ready()
    killers = [Killer(place, SEED) for place in places]
    rage(places, killers)
    waited = see_the_end(places)
    found = {place.name: [*place.crew.deserters, *problems(place)] for place in places}
    for place, killer in zip(places, killers, strict=True):
        report(place, killer, say)
    say(f"everything had ended {waited:.0f} s after the last fault")
    assert not any(found.values()), "\n".join(f"{name}: {one}" for name in found for one in found[name])


def rage(places: list[Place], killers: list[Killer]) -> None:
    """Let the killers strike until the time is over, and undo what they did."""
    clock, end = Event(), time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            for place, killer in zip(places, killers, strict=True):
                place.crew.tend()
                killer.come_by()
            clock.wait(_TICK)
    finally:
        for killer in killers:
            killer.retreat()


def see_the_end(places: list[Place]) -> float:
    """Wait until everything is over, and let the workers stop well; return how many seconds it took."""
    began = time.monotonic()
    for place in places:
        place.crew.stop_producing()
        # This process's own connections were cut as well.
        place.project.runtime.database.close()

    def look() -> bool:
        for place in places:
            place.crew.tend()
        return all(is_over(place) for place in places)

    wait_for(look, lambda: "\n".join(f"{place.name}\n{what_is_left(place)}" for place in places), PATIENCE)
    waited = time.monotonic() - began
    for place in places:
        place.crew.stop()
    return waited


def report(place: Place, killer: Killer, say: Callable[[str], None]) -> None:
    """Say what was made, and which faults it survived."""
    say(f"{place.name}: {summary(place)}; it survived")
    for fault in FAULTS:
        if fault != RESTARTS or place.server is not None:
            say(f"{killer.done[fault]:6} {fault}")
    if place.server is None:
        say(f"  none {RESTARTS}: {_why_not(place)}")
    for crash in place.crew.crashes:
        say(f"     1 worker that Celery let end: {crash}")


def _why_not(place: Place) -> str:
    if not IS_LONG:
        return "only a run with CHAOS_SECONDS makes a server of its own"
    if "postgresql" not in place.name:
        return "it is not the run's own"
    return "no PostgreSQL server is installed here"
