"""The messages that wait for a worker, in the order in which one would take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from heapq import heappop, heappush
from types import TracebackType
from typing import Any

from celery import Celery
from kombu.serialization import prepare_accept_content

from celery_flows.errors import ConfigurationError
from celery_flows.testing.broker import NUMBER


class Inbox:
    """Takes messages out of an app's queues; what it has taken and not given goes back at the end."""

    def __init__(self, app: Celery, now: Callable[[], datetime], queues: Iterable[str] | None = None) -> None:
        """Take nothing yet.

        Args:
            now: tells by which moment a message's eta has come.
            queues: their names; None: all that the app knows by now, or will know.
        """
        self._queues = None if queues is None else list(queues)
        self._app = app
        self._now = now
        # Heaps, in the order of their turns: by number, and by moment and number.
        self._due: list[tuple[int, int, Any]] = []
        self._later: list[tuple[datetime, int, int, Any]] = []
        # The queue of each that was taken, by how many were before it.
        self._taken: list[str] = []

    def __enter__(self) -> Inbox:
        self._connection = self._app.connection_for_read()
        driver = self._connection.transport.driver_type
        if driver != "memory":
            raise ConfigurationError(
                problem="A test takes all messages there are, so it does so with a broker in memory only, and "
                f"app {self._app.main!r} has {driver!r}. Ask for the fixture flows_worker, open "
                "`with in_memory(app):`, or let a real worker run them and wait: batch.wait(timeout=30)."
            )
        self._channel = self._connection.default_channel
        self._accept = prepare_accept_content(self._app.conf.accept_content)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = [(taken, message) for _, taken, message in self._due]
        left += [(taken, message) for *_, taken, message in self._later]
        for taken, message in sorted(left, reverse=True):
            self._put_back(self._taken[taken], message)
        self._connection.release()

    def next(self, *, later: bool = True) -> Any | None:
        """Take the next message: of those that are due the first published, else, if asked for, the next due."""
        heap = self._next(later)
        return heappop(heap)[-1] if heap else None

    def peek(self, *, later: bool = True) -> Any | None:
        """Look at the next message."""
        heap = self._next(later)
        return heap[0][-1] if heap else None

    def _next(self, later: bool) -> list[Any]:
        """The heap on which the next message is, or an empty one."""
        self._look()
        now = self._now()
        while self._later and self._later[0][0] <= now:
            heappush(self._due, heappop(self._later)[1:])
        return self._later if later and not self._due else self._due

    def _put_back(self, queue: str, message: Any) -> None:
        # At the front, as if nobody had looked: the broker itself would put it last, and say that it comes again.
        looked_at = message.serializable()
        message.reject()
        self._channel.queues[queue].queue.appendleft(looked_at)

    def _look(self) -> None:
        for name in self._queues if self._queues is not None else list(self._app.amqp.queues):
            while (message := self._channel.basic_get(name)) is not None:
                # As a worker's consumer has it.
                message.accept = self._accept
                self._keep(message)
                self._taken.append(name)

    def _keep(self, message: Any) -> None:
        # Queue by queue where messages have no numbers, as in another broker in memory.
        place = (message.properties.get(NUMBER, 0), len(self._taken), message)
        eta = message.headers.get("eta")
        if eta is None:
            heappush(self._due, place)
        else:
            moment = datetime.fromisoformat(eta)
            heappush(self._later, (moment if moment.tzinfo else moment.replace(tzinfo=UTC), *place))
