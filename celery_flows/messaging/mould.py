"""Messages cast from a mould, where the broker takes them as text: Redis, with the pipelines of kombu 5.7.

kombu makes that text anew for each message: it encodes the body, puts it into a dictionary with 30 entries, and
encodes that. Of calls of one task with the same options the texts differ in ten places. So a mould is made of a
text that kombu has pushed, and the texts that come after it are cast. A mould that does not give back the very
text that it was made of is not used: then kombu goes on.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, NamedTuple

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.saferepr import saferepr
from kombu.exceptions import OperationalError

from celery_flows.codec import decode, encode
from celery_flows.ids import new_id
from celery_flows.messaging.header import HEADER, Delivery
from celery_flows.store.publishing import ReadyJob

#: Messages in one round trip.
_MOST: Final = 1000

#: Characters after which another command is begun: a server holds the whole of one before it obeys.
_LONGEST: Final = 1 << 18

#: Arguments that are few.
_FEW: Final = 16

#: What stands in a mould where a message has something of its own.
_GAP: Final = re.compile(r'"\\u0000(\w+)"')


class Lineage(NamedTuple):
    """What a message says of where the call was made, which Celery looks up at each call."""

    #: The first and the last of the tasks that led to the call; None: it was made outside of tasks.
    root_id: str | None
    parent_id: str | None
    #: The queue for the caller's results, which is a thread's own.
    reply_to: str

    @classmethod
    def here(cls, app: Celery) -> Lineage:
        """That of calls made here and now."""
        parent = app.current_worker_task
        if parent is None:
            return cls(None, None, app.thread_oid)
        return cls(parent.request.root_id or parent.request.id, parent.request.id, app.thread_oid)


@dataclass(frozen=True)
class Mould:
    """The text of a message, with gaps."""

    #: The list that it is pushed to.
    key: str
    #: A format, and what its places are filled with.
    text: str
    gaps: tuple[str, ...]
    #: The third part of the body.
    embed: str
    #: Length of the arguments' text in the headers.
    limit: int

    def cast(self, job: ReadyJob, lineage: Lineage) -> str:
        """The text of another job's message."""
        args = tuple(decode(job.args))
        body = f"[{job.args}, {job.kwargs}, {self.embed}]"
        filling = {
            "body": f'"{b64encode(body.encode()).decode()}"',
            "id": quoted(job.id),
            "args": quoted(args_repr(args, self.limit)),
            "kwargs": '"{}"' if job.kwargs == "{}" else quoted(saferepr(decode(job.kwargs), self.limit)),
            "delivery": _delivery(job.batch_id, job.announces_id, job.delivery, job.keeps, job.blocks)
            % quoted(job.id),
            "tag": f'"{new_id()}"',
            "root": quoted(lineage.root_id or job.id),
            "parent": "null" if lineage.parent_id is None else quoted(lineage.parent_id),
            "reply": quoted(lineage.reply_to),
        }
        return self.text % tuple([filling[gap] for gap in self.gaps])


@lru_cache(maxsize=64)
def _delivery(
    batch_id: str | None, announces_id: str | None, number: int, keeps: int | None, blocks: int | None
) -> str:
    """What the headers of a batch's messages say of us, with a place for the id."""
    said = encode(Delivery("\0id", batch_id, announces_id, number, keeps=bool(keeps), blocks=bool(blocks)).write())
    return _GAP.sub("%s", said.replace("%", "%%"))


def mould_of(key: str, text: str, job: ReadyJob, lineage: Lineage, *, embed: Any, limit: int) -> Mould | None:
    """Make a mould of the text of a job's message; None: it is not such a text."""
    try:
        message = json.loads(text)
        for (*part, name), gap in _GAPS.items():
            where = message[part[0]] if part else message
            where[name] = f"\0{gap}"
        mould = _with_gaps(key, json.dumps(message), encode(embed), limit)
        is_same = _without_tag(mould.cast(job, lineage)) == _without_tag(text)
    except (KeyError, TypeError, ValueError):
        return None
    return mould if is_same else None


#: Where a message has something of its own, and what that is.
_GAPS: Final = {
    ("body",): "body",
    ("headers", "argsrepr"): "args",
    ("headers", "kwargsrepr"): "kwargs",
    ("headers", HEADER): "delivery",
    ("headers", "id"): "id",
    ("headers", "root_id"): "root",
    ("headers", "parent_id"): "parent",
    ("properties", "correlation_id"): "id",
    ("properties", "delivery_tag"): "tag",
    ("properties", "reply_to"): "reply",
}


def _with_gaps(key: str, text: str, embed: str, limit: int) -> Mould:
    gaps = tuple(_GAP.findall(text))
    return Mould(key, _GAP.sub("%s", text.replace("%", "%%")), gaps, embed, limit)


def _without_tag(text: str) -> Any:
    message = json.loads(text)
    del message["properties"]["delivery_tag"]
    return message


def args_repr(args: tuple[Any, ...], limit: int) -> str:
    """What the headers say of arguments."""
    # A few numbers look the same either way.
    are_plain = len(args) <= _FEW and all(type(one) in (int, bool) for one in args)
    text = repr(args) if are_plain else ""
    return text if are_plain and len(text) <= limit else str(saferepr(args, limit))


class Foundry:
    """Pushes cast messages, many in one round trip, in order with those that kombu pushes in its own pipeline."""

    def __init__(self, producer: Any, batch: Any) -> None:
        """Begin.

        Args:
            batch: what kombu's `producer.batch()` gives on entering.
        """
        self._producer = producer
        self._batch = batch
        # What is to be pushed: a list, and the texts that come to it one after another.
        self._texts: list[tuple[str, list[str]]] = []
        self._number = self._size = 0

    def pushed_by(self, publish: Callable[[], object]) -> tuple[str, str] | None:
        """Let kombu publish; the list and text of what it has put into its pipeline by that.

        None: that can't be seen, or it was more than one text, or a list by another name.
        """
        before = len(self._stack)
        publish()
        new = self._stack[before:]
        if len(new) != 1:
            return None
        command = new[0][0]
        if len(command) != 3 or str(command[0]).lower() != "lpush" or not all(type(one) is str for one in command):
            return None
        return (command[1], command[2]) if self._is_taken_as_it_is(command[1]) else None

    @property
    def _stack(self) -> list[Any]:
        # Looked at only, and with an eye to a kombu or a transport in which it is not there.
        pipeline = getattr(getattr(getattr(self._batch, "state", None), "session", None), "pipeline", None)
        stack = getattr(pipeline, "command_stack", None)
        return stack if isinstance(stack, list) else []

    def _is_taken_as_it_is(self, key: str) -> bool:
        with self._producer.channel.conn_or_acquire() as client, client.pipeline(transaction=False) as trial:
            trial.lpush(key, "")
            return bool(trial.command_stack[0][0][1] == key)

    def push(self, key: str, text: str) -> None:
        """Push a text, now or with those to come."""
        if not self._texts:
            # Before it comes what kombu has.
            self._batch.flush()
        if not self._texts or self._texts[-1][0] != key or self._size > _LONGEST:
            self._texts.append((key, []))
            self._size = 0
        self._texts[-1][1].append(text)
        self._size += len(text)
        self._number += 1
        if self._number >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Send what is left, so that kombu may go on.

        Raises:
            OperationalError: it is unknown what arrived.
        """
        texts, self._texts, self._number = self._texts, [], 0
        if not texts:
            return
        try:
            with (
                self._producer.channel.conn_or_acquire() as client,
                client.pipeline(transaction=False) as pipeline,
            ):
                for key, several in texts:
                    # One command takes them in their order, for a third of the time of a command each.
                    pipeline.lpush(key, *several)
                pipeline.execute()
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            raise OperationalError(f"messages were pushed, and it is unknown which arrived: {error}") from error


@contextmanager
def pipelined(producer: Any) -> Iterator[Foundry | None]:
    """Let messages be written many in one round trip, where kombu (5.7) and the transport (Redis) can.

    None: the transport takes no texts, or kombu knows no pipelines.
    """
    make: Callable[[], Any] | None = getattr(producer, "batch", None)
    if make is None:
        yield None
        return
    with make() as batch:
        foundry = Foundry(producer, batch)
        yield foundry
        foundry.flush()
