"""Messages made from earlier ones: calls that differ in id and arguments only are built by Celery once.

Celery's own way through `send_task` costs most of what publishing costs, and gives the same message but for
the id, the arguments and where the call was made. So the first of such calls goes that way, and what came out of
it is the pattern for the others, for as long as the process lives and Celery would make the same of them. Where
anything looks at each call on its way (a signal's receiver, a router that is a function, a tracing tool around
`send_task`), there are no patterns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from celery.utils.saferepr import saferepr

from celery_flows.codec import decode, encode
from celery_flows.messaging.header import HEADER, RETRIES, Delivery
from celery_flows.messaging.mould import Foundry, Lineage, Mould, args_repr, mould_of, pipelined
from celery_flows.store.publishing import ReadyJob

#: Options by which each message differs from the one before.
_OF_THE_MOMENT: Final = ('"countdown"', '"expires"', '"headers"', f'"{RETRIES}"')

_LISTENING: Final = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)

#: Patterns after which all are forgotten, lest calls that are never alike fill the memory.
_MOST: Final = 256

#: How deep Celery describes arguments in a message's headers, unless `task_repr_maxlevels` (5.7) says otherwise.
_LEVELS: Final = 3

#: What calls that are alike have in common.
Key: TypeAlias = tuple[Any, ...]


class Pattern(NamedTuple):
    """What Celery made of a call."""

    #: The third part of the body: callbacks and what else the message carries.
    embed: Any
    #: What the producer was called with, headers included.
    options: dict[str, Any]
    #: Where it went, where that is known.
    queue: str | None

    @property
    def ignores_result(self) -> bool:
        """Whether nobody will ask for the result."""
        return bool(self.options["headers"].get("ignore_result"))

    def like(self, job: ReadyJob, lineage: Lineage, limit: int) -> tuple[Any, dict[str, Any]]:
        """Body and options of another call.

        Args:
            limit: length of the arguments' text in the headers.
        """
        args, kwargs = tuple(decode(job.args)), decode(job.kwargs)
        headers = {
            **self.options["headers"],
            "id": job.id,
            "root_id": lineage.root_id or job.id,
            "parent_id": lineage.parent_id,
            "argsrepr": args_repr(args, limit),
            "kwargsrepr": "{}" if not kwargs else saferepr(kwargs, limit),
            HEADER: Delivery.of(job).write(),
        }
        own = {"headers": headers, "correlation_id": job.id, "reply_to": lineage.reply_to}
        return (args, kwargs, self.embed), {**self.options, **own}


class Memory:
    """The patterns of an app, and the moulds that are made of them."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._grounds: tuple[Any, ...] = ()
        self.patterns: dict[Key, Pattern] = {}
        #: None: no mould can be made of the pattern.
        self.moulds: dict[Key, Mould | None] = {}

    def refresh(self) -> Memory:
        """Forget everything where Celery would make something else of the same calls by now."""
        amqp = self._app.amqp
        sent_by = (amqp.router, amqp.send_task_message, amqp.argsrepr_maxsize, self._app.conf.task_default_queue)
        grounds = (os.getpid(), *sent_by)
        if grounds != self._grounds or len(self.patterns) > _MOST:
            self._grounds, self.patterns, self.moulds = grounds, {}, {}
        return self


class Patterns:
    """Publishes the calls of one chunk, by what is remembered of others."""

    def __init__(self, app: Celery, memory: Memory, chunk: Sequence[ReadyJob]) -> None:
        self._app = app
        self._tasks = app.tasks
        self._chunk = chunk
        self._are_allowed = _is_plain(app)
        self._memory = memory.refresh() if self._are_allowed else Memory(app)
        self._here = Lineage.here(app)
        self._priority = _inherited_priority(app)
        self._foundry: Foundry | None = None

    @contextmanager
    def to(self, producer: Any) -> Iterator[None]:
        """Publish to a producer, in a pipeline where that saves something.

        Args:
            producer: notes what it is called with, as `noted`, and where the message went, as `queue`.
        """
        self._producer = producer
        # One message in a pipeline costs two clients; once it is needed, to see the text for a mould.
        if len(self._chunk) == 1 and not self._wants_mould(self._key(self._chunk[0])):
            yield
            return
        with pipelined(producer) as self._foundry:
            yield

    def _key(self, job: ReadyJob) -> Key:
        # Of calls by name Celery makes something else once it knows a task by that name.
        return job.task, _parted(job.options)[0], job.task in self._tasks, self._priority

    def _lineage(self, job: ReadyJob) -> Lineage:
        own = _parted(job.options)[1]
        if own is None:
            return self._here
        return Lineage._make([one or other for one, other in zip(own, self._here, strict=True)])

    def _wants_mould(self, key: Key) -> bool:
        return key in self._memory.patterns and key not in self._memory.moulds

    def publish(self, job: ReadyJob, send: Callable[..., None]) -> None:
        """Publish a job as earlier ones were, or as Celery does.

        Args:
            send: publishes in Celery's way.
        """
        key = self._key(job)
        pattern = self._memory.patterns.get(key)
        if pattern is None:
            if self._foundry is not None:
                self._foundry.flush()
            self._send(job, key, send)
            return
        if not pattern.ignores_result:
            self._app.backend.on_task_call(self._producer, job.id)
        mould = self._memory.moulds.get(key)
        if mould is not None and self._cast(mould, job):
            self._producer.queue = pattern.queue
            return
        if self._foundry is not None:
            self._foundry.flush()
        if self._foundry is not None and self._wants_mould(key):
            self._memory.moulds[key] = self._mould(pattern, job, self._foundry)
        else:
            self._publish_like(pattern, job)

    def _send(self, job: ReadyJob, key: Key, send: Callable[..., None]) -> None:
        self._producer.noted = None
        send(job, self._producer)
        noted = self._producer.noted
        if self._are_allowed and noted is not None and not self._is_of_the_moment(job, noted[1]):
            body, options = noted
            self._memory.patterns[key] = Pattern(body[2], options, self._producer.queue)

    def _is_of_the_moment(self, job: ReadyJob, options: dict[str, Any]) -> bool:
        # Celery 5.7 tries again by itself, rather than by its producer, where it publishes a task's callbacks.
        is_retried = bool(options.get("retry")) is bool(self._app.conf.task_publish_retry)
        return not is_retried or any(word in job.options for word in _OF_THE_MOMENT)

    def _cast(self, mould: Mould, job: ReadyJob) -> bool:
        text = mould.cast(job, self._lineage(job))
        if self._foundry is None:
            return bool(self._producer.push(mould.key, text))
        self._foundry.push(mould.key, text)
        return True

    def _mould(self, pattern: Pattern, job: ReadyJob, foundry: Foundry) -> Mould | None:
        pushed = foundry.pushed_by(lambda: self._publish_like(pattern, job))
        if pushed is None:
            return None
        limit = self._app.amqp.argsrepr_maxsize
        return mould_of(*pushed, job, self._lineage(job), embed=pattern.embed, limit=limit)

    def _publish_like(self, pattern: Pattern, job: ReadyJob) -> None:
        body, options = pattern.like(job, self._lineage(job), self._app.amqp.argsrepr_maxsize)
        self._producer.publish(body, **options)


@lru_cache(maxsize=1024)
def _parted(options: str) -> tuple[str, list[Any] | None]:
    """The options of calls without what they say of a lineage; and that, in the order of its fields, or None."""
    if not any(f'"{name}"' in options for name in Lineage._fields):
        return options, None
    found = decode(options)
    own = [found.pop(name, None) for name in Lineage._fields]
    return encode(found), own


def _inherited_priority(app: Celery) -> Any:
    """The priority that calls made here have from the task that makes them, if they have none."""
    parent = app.current_worker_task if app.conf.task_inherit_parent_priority else None
    return None if parent is None else (parent.request.delivery_info or {}).get("priority")


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
        and app.conf.get("task_repr_maxlevels", _LEVELS) == _LEVELS
        and not any(signal.receivers for signal in _LISTENING)
        and all(isinstance(route, MapRoute) for route in amqp.router.routes or ())
    )
