"""Celery's chain, group and chord, caught as a whole where a block is open.

Celery would give the first message of a chain all later ones to carry, and would ask a result backend to
count a chord, before any of its tasks is called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from celery.canvas import _chain, _chord, group

from celery_flows.messaging.context import innermost

_MARK: Final = "celery_flows_native"


def wrap_canvas() -> None:
    """Let open blocks catch canvases, in this process; doing it again changes nothing."""
    for shape in (_chain, _chord, group):
        if not hasattr(shape.apply_async, _MARK):
            shape.apply_async = _wrapped(shape.apply_async)


def _wrapped(native: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(native)
    def apply_async(self: Any, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        block = innermost()
        if block is None or more or not block.takes_calls or not _is_of(self, block):
            return native(self, args, kwargs, *more, **options)
        return block.capture_canvas(self, args, kwargs, options)

    setattr(apply_async, _MARK, native)
    return apply_async


def _is_of(canvas: Any, block: Any) -> bool:
    """Whether a block enrolls canvases, and this one is of its app."""
    if not hasattr(block, "capture_canvas"):
        return False
    app = canvas.app
    unwrap = getattr(type(app), "_get_current_object", None)
    return (app if unwrap is None else unwrap(app)) is block.runtime.app
