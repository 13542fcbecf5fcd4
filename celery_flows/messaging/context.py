"""Which block a call made here and now belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_innermost: ContextVar[Any] = ContextVar("celery_flows_block", default=None)


def innermost() -> Any:
    """The block opened last in this context, which may be closed, or another thread's; or None."""
    return _innermost.get()


@contextmanager
def within(block: Any) -> Iterator[None]:
    """Make a block the innermost; None: act as outside of any block, as publishing does."""
    token = _innermost.set(block)
    try:
        yield
    finally:
        _innermost.reset(token)
