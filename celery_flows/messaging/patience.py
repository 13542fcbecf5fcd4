"""Patience with a database that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from celery_flows.messaging import eager
from celery_flows.messaging.runtime import Runtime
from celery_flows.store.database import is_database_error, is_unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Longest pause between two tries, in seconds.
LONGEST_PAUSE: Final = 5.0


@contextmanager
def committed(runtime: Runtime, what: str) -> Iterator[None]:
    """Go on where the database fails after the caller's own part is committed: the sweep does the rest.

    Who was told of an error would do again what is done already.
    """
    try:
        yield
    except Exception as error:
        # An eager app has run the jobs here: their errors are the caller's.
        if not is_database_error(error) or eager.is_eager(runtime.app.conf):
            raise
        logger.warning(
            "%s is committed, but the database failed while it was published (%s): the sweep publishes what is "
            "left after %g s.",
            what,
            error,
            runtime.settings.lease_timeout,
        )


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
