"""The messages that wait for a worker, in the order in which one would take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple

from celery import Celery

from celery_flows.errors import ConfigurationError
from celery_flows.testing.broker import NUMBER


class Waiting(NamedTuple):
    """A message, and what says when its turn is."""

    number: int
    #: Not before this moment; None: at once.
    eta: datetime | None
    message: Any


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
        self._waiting: list[Waiting] = []

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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._waiting:
            one.message.requeue()
        self._connection.release()

    def next(self, *, later: bool = True) -> Any | None:
        """Take the next message: of those that are due the first published, else, if asked for, the next due."""
        self._look()
        now = self._now()
        due = [one for one in self._waiting if one.eta is None or one.eta <= now]
        if not due and not later:
            return None
        found = due or sorted(self._waiting, key=lambda one: one.eta or now)
        if not found:
            return None
        self._waiting.remove(found[0])
        return found[0].message

    def _look(self) -> None:
        for name in self._queues if self._queues is not None else list(self._app.amqp.queues):
            while (message := self._channel.basic_get(name)) is not None:
                self._waiting.append(_waiting(message))
        # Queue by queue where they have no numbers, as in another broker in memory.
        self._waiting.sort(key=lambda one: one.number)


def _waiting(message: Any) -> Waiting:
    eta = message.headers.get("eta")
    moment = None if eta is None else datetime.fromisoformat(eta)
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return Waiting(message.properties.get(NUMBER, 0), moment, message)
