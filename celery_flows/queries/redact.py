"""What hides users' data where jobs are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery_flows.errors import InvalidSetting


@dataclass(frozen=True)
class Redact:
    """What hides arguments and errors where jobs are shown."""

    #: Takes a task's name, args and kwargs, and gives args and kwargs.
    arguments: Callable[[str, list[Any], dict[str, Any]], tuple[list[Any], dict[str, Any]]] | None = None
    #: Takes a task's name and an error's message, and gives a message.
    error: Callable[[str, str], str] | None = None

    @classmethod
    def of(cls, given: Any) -> Redact | None:
        """Take what a user gave: a function for arguments, or an object with methods for either.

        Raises:
            InvalidSetting: it is none of these.
        """
        if given is None:
            return None
        found = cls(getattr(given, "arguments", None), getattr(given, "error", None))
        if found != cls():
            return found
        if not callable(given):
            raise InvalidSetting(
                name="flows_redact",
                value=given,
                allowed="a function (task, args, kwargs) -> (args, kwargs), or an object with the methods "
                "arguments(task, args, kwargs) and error(task, message), or one of them",
            )
        return cls(given)
