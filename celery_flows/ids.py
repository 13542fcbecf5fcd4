"""Ids that sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Make a UUID of version 7: a text of 36 characters that sorts after all earlier ones of this process.

    The 60 bits of time count 2**-12 milliseconds (RFC 9562, section 6.2, method 3), so that ids made one
    after another keep their order, and an index over them grows at one end.
    """
    global _last
    with _lock:
        ticks = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        _last = ticks
    value = (
        (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0x2 << 62 | int.from_bytes(os.urandom(8)) >> 2
    )
    # As UUID writes it, which takes five times as long.
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def beginning_at(moment: datetime, plus: float = 0.0) -> str:
    """How the ids begin that are made in the millisecond of an aware moment; it sorts before all of them.

    Args:
        plus: seconds added to the moment.
    """
    text = f"{max(0, int((moment.timestamp() + plus) * 1000)):012x}"
    return f"{text[:8]}-{text[8:]}"


def _forget_threads() -> None:
    # The thread that held the lock when the process was forked does not exist in the child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_threads)
