"""A call of a task as it can be stored, and as it is made again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kombu import Exchange, Queue

from celery_flows.codec import decode, encode
from celery_flows.errors import NotJson, NotStorable, ResultTooLarge
from celery_flows.messaging.header import Delivery

#: What a call brings for publishing at once, and nothing a later publisher needs.
_PASSING: Final = ("producer", "publisher", "connection", "router", "result_cls", "add_to_parent")


def encode_arguments(task: str, args: Any, kwargs: Any) -> tuple[str, str]:
    """Store what a task is called with.

    Raises:
        NotJson: it names the task and the argument.
    """
    args, kwargs = list(args or ()), dict(kwargs or {})
    try:
        return encode(args), encode(kwargs)
    except (TypeError, ValueError):
        for number, value in enumerate(args, 1):
            _check(task, f"Positional argument {number}", value)
        for name, value in kwargs.items():
            _check(task, f"Argument {name!r}", value)
        raise


def encode_options(task: str, options: Mapping[str, Any]) -> str:
    """Store how a task is called: queue, eta, headers, link and whatever else `apply_async` takes.

    Raises:
        NotJson: it names the task and the option.
    """
    kept = {key: value for key, value in options.items() if value is not None and key not in _PASSING}
    if "task_type" in kept:
        # Celery merges a task's own options into calls by name, and not into calls of the task.
        kept["task_type"] = True
    for key in kept.keys() & {"queue", "exchange"}:
        if isinstance(kept[key], (Queue, Exchange)):
            kept[key] = kept[key].as_dict(recurse=True)
    try:
        return encode(kept)
    except (TypeError, ValueError):
        for name, value in kept.items():
            _check(task, f"Option {name!r}", value)
        raise


def encode_result(delivery: Delivery, task: str, result: Any, limit: int) -> str | None:
    """Store what a job returned, if somebody needs it.

    Raises:
        NotStorable: it can't be stored.
        ResultTooLarge: it is longer than `limit` bytes.
    """
    if not delivery.keeps:
        return None
    try:
        text = encode(result)
    except (TypeError, ValueError) as error:
        raise NotStorable(what=f"The result of {task}", problem=f"{error}.") from error
    if len(text) > limit:
        raise ResultTooLarge(task=task, size=len(text), limit=limit)
    return text


def expiry(options: Mapping[str, Any]) -> str | None:
    """When a call's message is no longer to be run, as ISO 8601 in UTC: seconds count from now.

    Celery takes seconds, a datetime, or its text; a naive one is in UTC, or in local time without enable_utc.
    """
    expires = options.get("expires")
    if expires is None:
        return None
    if isinstance(expires, (int, float)):
        return (datetime.now(UTC) + timedelta(seconds=expires)).isoformat()
    moment = datetime.fromisoformat(expires) if isinstance(expires, str) else expires
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def delay_of(options: Mapping[str, Any]) -> float:
    """Seconds from now until a call with these options may run."""
    eta = options.get("eta")
    if eta is None:
        return float(options.get("countdown") or 0)
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def decode_options(text: str) -> dict[str, Any]:
    """Read what `encode_options` stored."""
    options: dict[str, Any] = decode(text)
    if isinstance(options.get("queue"), dict):
        queue = options["queue"]
        options["queue"] = Queue(**(queue | {"exchange": Exchange(**queue["exchange"])}))
    if isinstance(options.get("exchange"), dict):
        options["exchange"] = Exchange(**options["exchange"])
    return options


def _check(task: str, argument: str, value: Any) -> None:
    try:
        encode(value)
    except (TypeError, ValueError) as error:
        raise NotJson(task=task, argument=argument, problem=f"{error}.") from error
