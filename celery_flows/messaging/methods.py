"""Methods of flow classes as tasks, with every app: as `shared_task` does for functions."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from celery._state import _get_active_apps, connect_on_app_finalize, get_current_app
from celery.local import Proxy

from celery_flows.errors import PlanInvalid

#: Functions, and the options of their tasks, by name.
_shared: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {}


def share(name: str, function: Callable[..., Any], **options: Any) -> None:
    """Register a function as a task, bound, with every app that is and that will be.

    One whose class is defined again, as when its module is reloaded, goes before the one that was.
    """

    def add(app: Celery) -> None:
        function, options = _shared[name]
        app._tasks.pop(name, None)
        app._task_from_fun(function, name=name, bind=True, **options)

    if name not in _shared:
        connect_on_app_finalize(add)
    _shared[name] = function, options
    _add_to_finalized(add)


def share_function(
    function: Callable[..., Any], front: Callable[[type], type], *, base: type | None = None, **options: Any
) -> Any:
    """Register a function as a task with every app that is and that will be, as `shared_task` does.

    Args:
        front: makes the task's base of the one that it would have.
        base: that one; None: the app's own.

    Returns:
        The task, of whichever app is current.
    """
    name = options.pop("name", None)

    def add(app: Celery) -> None:
        app._task_from_fun(function, name=name, base=front(base or app.Task), **options)

    def find() -> Any:
        app = get_current_app()
        return app.tasks[name or app.gen_task_name(function.__name__, function.__module__)]

    connect_on_app_finalize(add)
    _add_to_finalized(add)
    return Proxy(find)


def _add_to_finalized(add: Callable[[Celery], None]) -> None:
    for app in _get_active_apps():
        if app.finalized:
            with app._finalize_mutex:
                add(app)


def module_of(cls: type) -> str:
    """The module of a class as workers import it: a program's own is not called __main__ there."""
    if cls.__module__ != "__main__":
        return cls.__module__
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return str(spec.name) if spec is not None else Path(file).stem if file else "__main__"


def check_runs(cls: type, name: str, method: Callable[..., Any]) -> None:
    """See that a method does its work when it is called.

    Raises:
        PlanInvalid: it is a generator or asynchronous: calling it would do nothing.
    """
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        wrong = "asynchronous (async def)"
    elif inspect.isgeneratorfunction(method):
        wrong = "a generator (it has a yield)"
    else:
        return
    problem = f"{cls.__name__}.{name} is {wrong}, so that calling it does nothing: make it an ordinary method"
    raise PlanInvalid(problem=problem)


def check_takes(cls: type, name: str, function: Callable[..., Any], *given: str) -> None:
    """See that a method takes what it will be called with.

    Args:
        given: what stands for each argument after self.

    Raises:
        PlanInvalid: it does not.
    """
    try:
        # What a decorator puts in by itself is not asked for.
        inspect.signature(function, follow_wrapped=False).bind("self", *given)
    except TypeError as error:
        written = f"def {name}({', '.join(('self', *given))})"
        problem = f"{cls.__name__}.{name} is called as {written} would be, but has {error}"
        raise PlanInvalid(problem=problem.replace("has missing", "is missing")) from error
