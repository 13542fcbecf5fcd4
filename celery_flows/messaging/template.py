"""Messages made from the one before: calls that differ in id and arguments only are built by Celery once.

Celery's own way through `send_task` costs most of what publishing costs, and gives the same message but for
the id and the arguments. So the first of such calls goes that way, and what came out of it is the pattern for
the others. Where anything looks at each call on its way (a signal's receiver, a router that is a function, a
tracing tool around `send_task`), there are no patterns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from celery.utils.saferepr import saferepr

from celery_flows.codec import decode
from celery_flows.messaging.header import HEADER, RETRIES, Delivery
from celery_flows.store.publishing import ReadyJob

#: Options by which each message differs from the one before.
_OF_THE_MOMENT: Final = ('"countdown"', '"expires"', '"headers"', f'"{RETRIES}"')

_LISTENING: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)


class Pattern(NamedTuple):
    """What Celery made of a call."""

    #: The third part of the body: callbacks and what else the message carries.
    embed: Any
    #: What the producer was called with, headers included.
    options: dict[str, Any]

    @property
    def is_its_own_root(self) -> bool:
        """Whether the call was made outside of tasks, so that its id is its root's."""
        headers = self.options["headers"]
        return bool(headers["root_id"] == headers["id"])

    def like(self, job: ReadyJob, limit: int) -> tuple[Any, dict[str, Any]]:
        """Body and options of another call.

        Args:
            limit: length of the arguments' text in the headers.
        """
        args, kwargs = tuple(decode(job.args)), decode(job.kwargs)
        headers = {
            **self.options["headers"],
            "id": job.id,
            "argsrepr": _repr(args, limit),
            "kwargsrepr": "{}" if not kwargs else saferepr(kwargs, limit),
            HEADER: Delivery.of(job).write(),
        }
        if self.is_its_own_root:
            headers["root_id"] = job.id
        return (args, kwargs, self.embed), {**self.options, "headers": headers, "correlation_id": job.id}


def _repr(args: tuple[Any, ...], limit: int) -> str:
    # Numbers look the same either way.
    return repr(args) if all(type(one) in (int, bool) for one in args) else str(saferepr(args, limit))


class Patterns:
    """The patterns of one chunk, by task and options."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._are_allowed = _is_plain(app)
        self._patterns: dict[tuple[str, str], Pattern] = {}

    def publish(self, job: ReadyJob, producer: Any, send: Callable[..., None]) -> None:
        """Publish a job as an earlier one was, or as Celery does.

        Args:
            producer: notes what it is called with, as `noted`.
            send: publishes in Celery's way.
        """
        key = (job.task, job.options)
        pattern = self._patterns.get(key)
        if pattern is None:
            producer.noted = None
            send(job, producer)
            if self._are_allowed and producer.noted is not None and not _is_of_the_moment(job):
                self._patterns[key] = _pattern(*producer.noted)
            return
        body, options = pattern.like(job, self._app.amqp.argsrepr_maxsize)
        if not options["headers"].get("ignore_result"):
            self._app.backend.on_task_call(producer, job.id)
        producer.publish(body, **options)


def _pattern(body: Any, options: dict[str, Any]) -> Pattern:
    return Pattern(body[2], options)


def _is_of_the_moment(job: ReadyJob) -> bool:
    return any(word in job.options for word in _OF_THE_MOMENT)


def _is_plain(app: Celery) -> bool:
    """Whether Celery alone decides what becomes of a call, and by its task and options only."""
    amqp = app.amqp
    is_celerys_own = (
        type(app).send_task.__module__ == "celery.app.base"
        and type(amqp)._create_task_sender is AMQP._create_task_sender
        and getattr(amqp.send_task_message, "__module__", "") == "celery.app.amqp"
    )
    return (
        is_celerys_own
        and app.conf.task_protocol == 2
        and not app.conf.task_send_sent_event
        and not any(signal.receivers for signal in _LISTENING)
        and all(isinstance(route, MapRoute) for route in amqp.router.routes or ())
    )
