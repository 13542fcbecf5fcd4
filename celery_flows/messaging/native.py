"""Threads that run while every greenlet is busy: a gevent worker's lease must not depend on its tasks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any


def start_thread(act: Callable[[], None], name: str) -> None:
    """Run something in a thread of the operating system, also where gevent has put greenlets in their place."""
    if _patched("threading"):
        _original("_thread", "start_new_thread")(act, ())
    else:
        threading.Thread(target=act, name=name, daemon=True).start()


def sleep(seconds: float) -> None:
    """Let this thread of the operating system sleep."""
    _original("time", "sleep")(seconds)


def new_lock() -> Any:
    """A lock between threads of the operating system."""
    return _original("_thread", "allocate_lock")()


def _patched(module: str) -> bool:
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def _original(module: str, name: str) -> Any:
    monkey: Any = sys.modules.get("gevent.monkey")
    return getattr(__import__(module), name) if monkey is None else monkey.get_original(module, name)
