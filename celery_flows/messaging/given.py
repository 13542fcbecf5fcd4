"""What users say of a batch, as it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from celery_flows.codec import LONGEST_KEY, encode, safe_text
from celery_flows.errors import InvalidSetting, NotJson, TooLong

#: What may become of a lost job.
ON_LOSS: Final = ("fail", "retry")


def encode_context(context: Any) -> str:
    """A batch's context as it is stored."""
    try:
        return encode(context)
    except (TypeError, ValueError) as error:
        raise NotJson(task="a batch", argument="The context", problem=f"{error}.") from error


def encode_tags(tags: Iterable[str]) -> str:
    """A batch's tags as they are stored."""
    if isinstance(tags, str):
        raise InvalidSetting(name="tags", value=tags, allowed=f"a list of texts: [{tags!r}]")
    return encode([safe_text(tag) for tag in tags])


def check_on_loss(on_loss: str | None, name: str = "on_loss") -> str | None:
    """What becomes of lost jobs, if it is one of the words for it.

    Args:
        name: what to call it, where it is not.
    """
    if on_loss not in (None, *ON_LOSS):
        raise InvalidSetting(name=name, value=on_loss, allowed='"fail", "retry" or None')
    return on_loss


def owns_memory(memory: str | None, otherwise: bool = False) -> bool:
    """Whether a batch's memory is its own, by what was said of it.

    Args:
        otherwise: where nothing was.
    """
    if memory not in (None, "own", "shared"):
        raise InvalidSetting(name="memory", value=memory, allowed='"own", "shared" or None')
    return otherwise if memory is None else memory == "own"


def check_length(what: str, text: Any) -> None:
    """See that a name that users give fits where it is kept.

    Raises:
        TooLong: it does not.
    """
    if len(str(text)) > LONGEST_KEY:
        raise TooLong(what=what, length=len(str(text)), limit=LONGEST_KEY, start=str(text)[:60])


def check_names(task: str, options: Mapping[str, Any]) -> None:
    """See that a task's name, and that of the queue it is called into, fit where they are kept.

    Raises:
        TooLong: one does not.
    """
    check_length("The name of a task", task)
    queue = options.get("queue")
    if queue is not None:
        check_length(f"The name of the queue for {task}", getattr(queue, "name", queue))


def encode_key(key: str | None) -> str | None:
    """A batch's key as it is stored.

    Raises:
        TooLong: it does not fit; cut off it might be another's.
    """
    if key is None:
        return None
    check_length("The key of a batch", key)
    return safe_text(key)


def task_on_loss(task: Any) -> str | None:
    """What a task says of lost jobs, if it is one of the words for it."""
    on_loss = getattr(task, "on_loss", None)
    return None if on_loss is None else check_on_loss(on_loss, f"on_loss of task {task.name}")


def moment(since: datetime | None) -> datetime | None:
    """A moment that users give, in UTC; a naive one is in local time.

    Raises:
        TypeError: it is none.
    """
    if since is not None and not isinstance(since, datetime):
        raise TypeError(f"since= takes a datetime, such as datetime.now() - timedelta(days=1), not {since!r}")
    return None if since is None else since.astimezone(UTC)
