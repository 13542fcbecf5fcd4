"""Threads at work where processes fork.

SQLite remembers in a process's memory which locks that process holds, and a client of a broker has locks of its
own. A child that is forked while another thread of its parent is at work with one inherits the memory but not
the thread: it would wait for ever for a lock that nobody gives back. So a fork waits until no other thread is,
for a moment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Engine, event

#: How long a fork waits at most, in seconds: a thread may be in a long transaction.
_PATIENCE: Final = 5.0

#: Which thread is at work with which connection.
_at_work: dict[int, int] = {}
# May be asked for again by the thread that has it, where a garbage collection gives a connection back.
_lock = threading.RLock()


def guard(engine: Engine) -> None:
    """Let forks wait for what is done on this engine's connections."""
    event.listen(engine, "checkout", _begin)
    event.listen(engine, "checkin", _end)
    # It never comes back to the pool.
    event.listen(engine, "detach", _end)


@contextmanager
def at_work(on: object) -> Iterator[None]:
    """Let forks wait for what is done inside."""
    _begin(None, on)
    try:
        yield
    finally:
        _end(None, on)


def _begin(connection: Any, record: Any, *_: Any) -> None:
    with _lock:
        _at_work[id(record)] = threading.get_ident()


def _end(connection: Any, record: Any) -> None:
    with _lock:
        _at_work.pop(id(record), None)


def _before_fork() -> None:
    deadline, here = time.monotonic() + _PATIENCE, threading.get_ident()
    _lock.acquire()
    while any(thread != here for thread in _at_work.values()) and time.monotonic() < deadline:
        _lock.release()
        time.sleep(0.001)
        _lock.acquire()


def _after_fork_in_child() -> None:
    _at_work.clear()
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)
