"""A broker in this process's memory, whose messages know in which order they were published."""

from __future__ import annotations

from itertools import count
from queue import Queue
from typing import Any, ClassVar, Final

from kombu.transport import TRANSPORT_ALIASES, memory

#: What the URL of such a broker begins with.
SCHEME: Final = "flows-testing"

#: Where a message keeps its number.
NUMBER: Final = "flows_number"

TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


class Channel(memory.Channel):
    """kombu's own, with queues apart from those of other brokers in memory."""

    queues: dict[str, Queue[Any]] = {}  # noqa: RUF012  # kombu's way of saying that it is the process's
    _numbers: ClassVar[count[int]] = count(1)

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        # One that a task has put back has its turn after all others.
        message["properties"][NUMBER] = next(self._numbers)
        super()._put(queue, message, **kwargs)  # type: ignore[no-untyped-call] # kombu's


class Transport(memory.Transport):
    """kombu's own, in which a worker in a thread looks for messages often."""

    Channel = Channel
    polling_interval = 0.01


def clear() -> None:
    """Forget all messages."""
    Channel.queues.clear()
