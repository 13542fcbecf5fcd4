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

from celery import Celery
from celery.utils.saferepr import saferepr

from celery_flows.codec import decode, encode
from celery_flows.messaging.header import HEADER, RETRIES, Delivery
from celery_flows.messaging.mould import Foundry, Lineage, Mould, args_repr, mould_of, pipelined
from celery_flows.messaging.onlookers import is_plain
from celery_flows.store.publishing import ReadyJob

#: Options by which each message differs from the one before, or is not what its job says.
_OF_THE_MOMENT: Final = (
    *('"countdown"', '"expires"', '"headers"', f'"{RETRIES}"'),
    *('"argsrepr"', '"kwargsrepr"', '"correlation_id"'),
)

#: Patterns after which all are forgotten, lest calls that are never alike fill the memory; and how long, in
#: characters, the options of a call are that is remembered.
_MOST: Final = 256
_LONGEST: Final = 8192

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


class Kept(NamedTuple):
    """What is remembered."""

    #: What messages depend on, besides what is theirs.
    grounds: tuple[Any, ...]
    patterns: dict[Key, Pattern]
    #: None: no mould can be made of the pattern.
    moulds: dict[Key, Mould | None]

    def wants_mould(self, key: Key) -> bool:
        """Whether the next call like this is one to make a mould of."""
        return key in self.patterns and key not in self.moulds


class Memory:
    """The patterns of an app, and the moulds that are made of them."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._kept = Kept((), {}, {})

    def kept(self) -> Kept:
        """What is remembered: nothing, where Celery would make something else of the same calls by now."""
        amqp = self._app.amqp
        sent_by = (amqp.router, amqp.send_task_message, amqp.argsrepr_maxsize, self._app.conf.task_default_queue)
        grounds, kept = (os.getpid(), *sent_by), self._kept
        if grounds != kept.grounds or len(kept.patterns) > _MOST:
            # Another thread that is at work with what there was before goes on with that.
            kept = self._kept = Kept(grounds, {}, {})
        return kept


class Patterns:
    """Publishes the calls of one chunk, by what is remembered of others."""

    def __init__(self, app: Celery, memory: Memory, chunk: Sequence[ReadyJob]) -> None:
        self._app = app
        # As Celery looks: `app.tasks` would finalize the app.
        self._tasks = app._tasks
        self._chunk = chunk
        self._are_allowed = is_plain(app)
        self._kept = memory.kept() if self._are_allowed else Kept((), {}, {})
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
        if len(self._chunk) == 1 and not self._kept.wants_mould(self._key(self._chunk[0])):
            yield
            return
        with pipelined(producer) as self._foundry:
            yield

    def _key(self, job: ReadyJob) -> Key:
        options, own = _parted(job.options)
        # Celery lets a call inherit where it lacks one of these.
        is_heir = own is None or not (own[0] and own[1])
        return job.task, options, self._merged(job), self._priority if is_heir else None

    def _merged(self, job: ReadyJob) -> str:
        """What Celery (5.7) adds to the options of a call by name, if it knows a task by that name."""
        task = None if '"task_type"' in job.options else self._tasks.get(job.task)
        return "" if task is None else str(task._get_exec_options())

    def _lineage(self, job: ReadyJob) -> Lineage:
        own = _parted(job.options)[1]
        if own is None:
            return self._here
        return Lineage._make([one or other for one, other in zip(own, self._here, strict=True)])

    def publish(self, job: ReadyJob, send: Callable[..., None]) -> None:
        """Publish a job as earlier ones were, or as Celery does.

        Args:
            send: publishes in Celery's way.
        """
        key = self._key(job)
        pattern = self._kept.patterns.get(key)
        if pattern is None:
            if self._foundry is not None:
                self._foundry.flush()
            self._send(job, key, send)
            return
        if not pattern.ignores_result:
            self._app.backend.on_task_call(self._producer, job.id)
        mould = self._kept.moulds.get(key)
        if mould is not None and self._cast(mould, job):
            self._producer.queue = pattern.queue
            return
        if self._foundry is not None:
            self._foundry.flush()
        if self._foundry is not None and self._kept.wants_mould(key):
            self._kept.moulds[key] = self._mould(pattern, job, self._foundry)
        else:
            self._publish_like(pattern, job)

    def _send(self, job: ReadyJob, key: Key, send: Callable[..., None]) -> None:
        self._producer.noted = None
        send(job, self._producer)
        noted = self._producer.noted
        if self._are_allowed and noted is not None and not self._is_of_the_moment(job, noted[1]):
            body, options = noted
            self._kept.patterns[key] = Pattern(body[2], options, self._producer.queue)

    def _is_of_the_moment(self, job: ReadyJob, options: dict[str, Any]) -> bool:
        # Celery 5.7 tries again by itself, rather than by its producer, where it publishes a task's callbacks.
        is_retried = bool(options.get("retry")) is bool(self._app.conf.task_publish_retry)
        # A task itself may say for how long its calls are good.
        expires = options["headers"].get("expires") is not None
        # A broker that delays messages itself (RabbitMQ's quorum queues, by an exchange of Celery's) is told for
        # how long.
        is_delayed = '"eta"' in job.options and options["exchange"] != ""
        is_long = len(job.options) > _LONGEST
        is_said = any(word in job.options for word in _OF_THE_MOMENT)
        return is_said or expires or is_delayed or is_long or not is_retried

    def _cast(self, mould: Mould, job: ReadyJob) -> bool:
        text = mould.cast(job, self._lineage(job))
        if self._foundry is None:
            return bool(self._producer.push(mould.key, text))
        self._foundry.push(mould.key, text)
        return True

    def _mould(self, pattern: Pattern, job: ReadyJob, foundry: Foundry) -> Mould | None:
        pushed = foundry.pushed_by(lambda: self._publish_like(pattern, job))
        # Which queues are bound to an exchange, kombu looks up for each message.
        if pushed is None or pattern.options["exchange"] != "" or not self._producer.is_plain:
            return None
        limit = self._app.amqp.argsrepr_maxsize
        return mould_of(*pushed, job, self._lineage(job), embed=pattern.embed, limit=limit)

    def _publish_like(self, pattern: Pattern, job: ReadyJob) -> None:
        body, options = pattern.like(job, self._lineage(job), self._app.amqp.argsrepr_maxsize)
        self._producer.publish(body, **options)


def _parted(options: str) -> tuple[str, list[Any] | None]:
    return (options, None) if len(options) > _LONGEST else _parted_once(options)


@lru_cache(maxsize=_MOST)
def _parted_once(options: str) -> tuple[str, list[Any] | None]:
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
