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
from celery_flows.messaging.mould import Foundry, Mould, args_repr, mould_of
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
    #: Where it went, where that is known.
    queue: str | None = None

    @property
    def ignores_result(self) -> bool:
        """Whether nobody will ask for the result."""
        return bool(self.options["headers"].get("ignore_result"))

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
            "argsrepr": args_repr(args, limit),
            "kwargsrepr": "{}" if not kwargs else saferepr(kwargs, limit),
            HEADER: Delivery.of(job).write(),
        }
        if self.is_its_own_root:
            headers["root_id"] = job.id
        return (args, kwargs, self.embed), {**self.options, "headers": headers, "correlation_id": job.id}


class Patterns:
    """The patterns of one chunk, by task and options, and the moulds that are made of them."""

    def __init__(self, app: Celery, producer: Any, foundry: Foundry | None) -> None:
        """Begin.

        Args:
            producer: notes what it is called with, as `noted`, and where the message went, as `queue`.
            foundry: takes messages as texts; None: nobody does.
        """
        self._app = app
        self._producer = producer
        self._foundry = foundry
        self._are_allowed = _is_plain(app)
        self._patterns: dict[tuple[str, str], Pattern] = {}
        self._moulds: dict[tuple[str, str], Mould | None] = {}

    def publish(self, job: ReadyJob, send: Callable[..., None]) -> None:
        """Publish a job as earlier ones were, or as Celery does.

        Args:
            send: publishes in Celery's way.
        """
        key = (job.task, job.options)
        pattern = self._patterns.get(key)
        mould = self._moulds.get(key)
        if pattern is not None and not pattern.ignores_result:
            self._app.backend.on_task_call(self._producer, job.id)
        if pattern is not None and mould is not None and self._foundry is not None:
            self._foundry.push(mould.key, mould.cast(job))
            self._producer.queue = pattern.queue
            return
        if self._foundry is not None:
            self._foundry.flush()
        if pattern is None:
            self._send(job, key, send)
        elif self._foundry is None or key in self._moulds:
            self._publish_like(pattern, job)
        else:
            pushed = self._foundry.pushed_by(lambda: self._publish_like(pattern, job))
            limit = self._app.amqp.argsrepr_maxsize
            self._moulds[key] = None if pushed is None else mould_of(*pushed, job, pattern.embed, limit)

    def _send(self, job: ReadyJob, key: tuple[str, str], send: Callable[..., None]) -> None:
        self._producer.noted = None
        send(job, self._producer)
        if self._are_allowed and self._producer.noted is not None and not _is_of_the_moment(job):
            body, options = self._producer.noted
            self._patterns[key] = Pattern(body[2], options, self._producer.queue)

    def _publish_like(self, pattern: Pattern, job: ReadyJob) -> None:
        body, options = pattern.like(job, self._app.amqp.argsrepr_maxsize)
        self._producer.publish(body, **options)


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
