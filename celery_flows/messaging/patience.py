"""Patience with a database that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from celery_flows.messaging.runtime import Runtime
from celery_flows.store.database import is_unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Longest pause between two tries, in seconds.
LONGEST_PAUSE: Final = 5.0


def persistently(runtime: Runtime, act: Callable[[], T]) -> T:
    """Do something with the database, again and again while it is away, for as long as a lease lasts."""
    deadline = time.monotonic() + runtime.settings.lease_timeout
    pause = 0.1
    while True:
        try:
            return act()
        except Exception as error:
            if not is_unavailable(error) or time.monotonic() + pause > deadline:
                raise
            logger.warning("The database is away (%s); trying again in %g s.", error, pause)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
