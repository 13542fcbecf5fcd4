"""Tasks of which canvases are made that run natively and durably."""

from __future__ import annotations

from typing import Any

import shapes
from acceptance.making import seen, task


@task()
def canvas_tell(*args: Any) -> str:
    """Return the arguments as they came."""
    return shapes.tell(*args)


@task()
def canvas_note(*args: Any, key: str) -> None:
    """Say what it was called with."""
    seen("noted", key, *args)


@task()
def canvas_fail(*args: Any) -> None:
    """Fail."""
    raise ValueError("on purpose")


@task()
def canvas_erred(task_id: str, *, key: str) -> None:
    """An errback that gets an id."""
    seen("noted", key, "id", task_id)


@task()
def canvas_erred_with(request: Any, error: Exception, traceback: Any, *, key: str) -> None:
    """An errback that gets what went wrong."""
    seen("noted", key, "error", request.id, type(error).__name__, str(error))
