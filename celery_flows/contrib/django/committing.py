"""What waits for Django's commit, also where a test case's own transaction is never committed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from celery_flows.contrib.django.place import wrapper_of
from celery_flows.errors import BlockMisuse
from celery_flows.store.joined import run_logged

logger = logging.getLogger(__name__)


class Waiting:
    """Something of ours that is done once, after the commit: a test may have it called there and then."""

    def __init__(self, action: Callable[[], None], is_robust: bool) -> None:
        self._action = action
        self._is_robust = is_robust
        self._is_done = False

    def __call__(self) -> None:
        """Do it, if that has not been done."""
        if self._is_done:
            return
        self._is_done = True
        if self._is_robust:
            run_logged(self._action)
        else:
            self._action()


def wait(action: Callable[[], None], alias: str, *, is_robust: bool = True) -> None:
    """Do something once Django's transaction that is open here is committed."""
    transaction.on_commit(Waiting(action, is_robust), using=alias)


@contextmanager
def as_committed(alias: str) -> Iterator[None]:
    """Take the transaction of a test case as committed: see `Database.as_committed`.

    Before the block what waits of ours is done, and after it everything that the block has let wait: in a worker
    the tasks that run in it would commit by themselves.

    Raises:
        BlockMisuse: another transaction is open inside of it.
    """
    wrapper = wrapper_of(alias)
    if not wrapper.in_atomic_block:
        yield
        return
    if not wrapper.atomic_blocks[-1]._from_testcase:
        raise BlockMisuse(
            problem="A transaction is open here, so nothing of it is published yet: run its jobs after its block "
            "(transaction.atomic()) has ended."
        )
    _do(wrapper, 0, Waiting)
    begun = len(wrapper.run_on_commit)
    yield
    _do(wrapper, begun, object)


def _do(wrapper: Any, at: int, meant: type) -> None:
    # Until none is left, as one may add others.
    while at < len(wrapper.run_on_commit):
        savepoints, action, is_robust = wrapper.run_on_commit[at]
        if isinstance(action, meant):
            # Its place stays, as who captures callbacks counts them.
            wrapper.run_on_commit[at] = (savepoints, _nothing, is_robust)
            _call(action, is_robust)
        at += 1


def _call(action: Any, is_robust: bool) -> None:
    try:
        action()
    except Exception:
        if not is_robust:
            raise
        logger.exception("What waited for the commit failed: %r", action)


def _nothing() -> None:
    """It is done already."""
