"""The killer: faults at random, by a seed, each undone after a while; and how many of each kind there were."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from acceptance.running import Worker
from chaos.crew import SHORT
from chaos.place import Place

#: What takes a fault back.
Undo = Callable[[], object]

#: Does something to a place; returns for how many seconds it lasts and how it is undone, or None where there
#: was nothing to do it to.
Fault = Callable[[Place, random.Random], tuple[float, Undo] | None]

#: Seconds between two faults at a place.
PAUSES: Final = (0.5, 1.5)

#: Seconds until the next, where one could not be done.
SOON: Final = 0.2

#: Seconds that a service is away: workers wait for it no longer than their lease lasts.
AWAY: Final = (0.05, 0.3 * SHORT["lease_timeout"])

#: Seconds that a process is frozen: some outlast their lease.
FROZEN: Final = (0.2, 1.6 * SHORT["lease_timeout"])


#: Seconds that the restart of a server takes at most, as a rule.
RESTART: Final = 5.0


def _nothing() -> None:
    """What is dead stays dead; the crew starts another."""


DONE: Final = (0.0, _nothing)


def kill_child(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """SIGKILL one process of a worker's pool."""
    children = [child for worker in place.crew.workers for child in _children(worker)]
    if not children:
        return None
    _signal(chance.choice(children), signal.SIGKILL)
    return DONE


def kill_worker(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """SIGKILL a worker and its pool."""
    chance.choice(place.crew.workers).kill()
    return DONE


def kill_main(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """SIGKILL a worker's main process; its pool goes on with what it has."""
    place.crew.orphan(chance.choice(place.crew.workers))
    return DONE


def freeze_worker(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """SIGSTOP a worker and its pool, or its main process alone, or one of the pool; SIGCONT later."""
    worker = chance.choice(place.crew.workers)
    main, children = worker.process.pid, _children(worker)
    frozen = chance.choice(([main, *children], [main], children[:1]))
    return _freeze(frozen, chance) if frozen else None


def kill_producer(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """SIGKILL a producer."""
    chance.choice(place.crew.producers).kill()
    return DONE


def freeze_producer(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """SIGSTOP a producer; SIGCONT later."""
    return _freeze([chance.choice(place.crew.producers).process.pid], chance)


def end_sessions(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """pg_terminate_backend, or KILL: one session, or all of them."""
    sessions = place.sessions()
    chosen = sessions if chance.random() < 0.5 else sessions[:1]
    for number in chosen:
        # Some end by themselves meanwhile.
        with suppress(Exception):
            place.end_session(number)
    return DONE if chosen else None


def take_database_away(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """Cut all connections to the database, and refuse new ones for a while."""
    place.database_door.shut()
    return chance.uniform(*AWAY), place.database_door.open


def take_broker_away(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """Cut all connections to the broker, and refuse new ones for a while."""
    place.broker_door.shut()
    return chance.uniform(*AWAY), place.broker_door.open


def purge(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """Lose the messages that wait in the queue."""
    with suppress(Exception):
        return DONE if place.purge() else None
    return None


def restart_database(place: Place, chance: random.Random) -> tuple[float, Undo] | None:
    """Stop the database's server, as a crash would or in order, and start it."""
    assert place.server is not None
    restart = threading.Thread(target=place.server.restart, args=[chance.choice(("immediate", "fast"))])
    restart.start()
    # The other places are not to wait for it.
    return RESTART, restart.join


#: What can be done only where the server is the run's own.
RESTARTS: Final = "database servers restarted"

FAULTS: Final[dict[str, Fault]] = {
    "pool processes killed": kill_child,
    "workers killed with their pools": kill_worker,
    "workers killed without their pools": kill_main,
    "workers frozen": freeze_worker,
    "producers killed": kill_producer,
    "producers frozen": freeze_producer,
    "database sessions ended": end_sessions,
    "database cut off": take_database_away,
    "broker cut off": take_broker_away,
    "queues purged": purge,
    RESTARTS: restart_database,
}


class Killer:
    """Strikes one place again and again. Each kind has its turn before any comes again."""

    def __init__(self, place: Place, seed: str) -> None:
        self._place = place
        self._seed = f"{seed} {place.name}"
        self._chance = random.Random(self._seed)
        self._number = 0
        self._deck: list[str] = []
        self._undoing: dict[str, tuple[float, Undo]] = {}
        self._next_at = time.monotonic()
        #: How often each fault was done.
        self.done: Counter[str] = Counter()

    def come_by(self) -> None:
        """Undo what has lasted long enough; strike, if it is time."""
        now = time.monotonic()
        for name in [name for name, (due, _) in self._undoing.items() if due <= now]:
            self._undoing.pop(name)[1]()
        if now >= self._next_at:
            self._next_at = now + self._chance.uniform(*PAUSES)
            self._strike(self._draw())

    def _draw(self) -> str:
        if not self._deck:
            self._deck = [name for name in FAULTS if name != RESTARTS or self._place.server is not None]
            self._chance.shuffle(self._deck)
        return self._deck.pop()

    def _strike(self, name: str) -> None:
        # Which and how long hangs on the seed and the number alone, not on what befell the ones before.
        self._number += 1
        chance = random.Random(f"{self._seed} {self._number}")
        # One whose last blow still lasts, or for which there is nobody to strike, has its turn again later.
        struck = None if name in self._undoing else FAULTS[name](self._place, chance)
        if struck is None:
            self._deck.insert(0, name)
            self._next_at = time.monotonic() + SOON
        else:
            lasts, undo = struck
            self._undoing[name] = time.monotonic() + lasts, undo
            self.done[name] += 1

    def retreat(self) -> None:
        """Undo everything, and strike no more."""
        for _, undo in self._undoing.values():
            undo()
        self._undoing.clear()


def _children(worker: Worker) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(worker.process.pid)], capture_output=True, text=True, check=False)
    return sorted(int(number) for number in found.stdout.split())


def _freeze(processes: list[int], chance: random.Random) -> tuple[float, Undo]:
    for process in processes:
        _signal(process, signal.SIGSTOP)

    def thaw() -> None:
        for process in processes:
            _signal(process, signal.SIGCONT)

    return chance.uniform(*FROZEN), thaw


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)
