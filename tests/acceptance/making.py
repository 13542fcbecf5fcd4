"""How tasks are kept for every app that is made, and how a test learns what they did.

What a task did is appended to a file, a line each, so that a test can count it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from celery_flows import Flows

_tasks: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []


def task(prefix: str = "jobs", **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let every app that is made have this function as a task, named "<prefix>.<function>"."""

    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        _tasks.append((f"{prefix}.{function.__name__}", function, options))
        return function

    return keep


def make_app(settings: dict[str, Any]) -> Celery:
    """Make the app: `celery` is its configuration, `flows` ours (None leaves celery-flows out)."""
    app = Celery("acceptance", set_as_current=False)
    app.conf.update(settings["celery"])
    if settings["flows"] is not None:
        Flows(app, **settings["flows"])
    for name, function, options in _tasks:
        app.task(name=name, shared=False, **options)(function)
    return app


def seen(*words: Any) -> None:
    """Append a line to the file of what was done; lines of this size are appended whole."""
    line = json.dumps([*words]) + "\n"
    file = os.open(os.environ["FLOWS_ACCEPTANCE_SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def wait_for_file(path: str) -> None:
    """Wait until the test makes a file."""
    deadline = time.monotonic() + 60
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
