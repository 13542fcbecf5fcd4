"""The one publisher: it hands the messages of committed, ready jobs to the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu import exceptions
from kombu.exceptions import OperationalError

from celery_flows.codec import LONGEST_KEY, decode, safe_text
from celery_flows.messaging import eager
from celery_flows.messaging.call import decode_options, delay_of
from celery_flows.messaging.context import within
from celery_flows.messaging.header import HEADER, RETRIES, Delivery
from celery_flows.messaging.onlookers import is_plain_producer
from celery_flows.messaging.template import Memory, Patterns
from celery_flows.settings import Settings
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.forking import at_work
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.transitions.publish import Published, keep_for_publishing, mark_published
from celery_flows.transitions.settle import settle

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: What says that the broker, and not a message, is the trouble. kombu has pipelines since 5.7.
_BROKER_ERRORS: Final = (OperationalError, OSError, getattr(exceptions, "BatchPublishError", OperationalError))


class Publisher:
    """Publishes jobs, in order, and marks them queued.

    A broker that can't be reached is no error here: the rows stay ready, and the sweep publishes them.
    A message that can't be built fails its job.
    """

    def __init__(self, app: Celery, send_task: Callable[..., Any], database: Database, settings: Settings) -> None:
        self._app = app
        self._send_task = send_task
        self._database = database
        self._settings = settings
        self._memory = Memory(app)

    def publish(self, ready: Iterable[ReadyJob]) -> int:
        """Publish jobs that are ready, or overdue, once that is committed. An eager app runs them here.

        Returns:
            How many the broker took; none yet, where a framework's transaction is open here.
        """
        if self._database.is_joined:
            self.after_commit(lambda: self._publish_committed(ready))
            return 0
        return self._publish_committed(ready)

    def after_commit(self, action: Callable[[], Any]) -> None:
        """Do something once what was written here is committed; what eager jobs raise goes to the caller."""
        self._database.after_commit(action, is_robust=not eager.is_eager(self._app.conf))

    def _publish_committed(self, ready: Iterable[ReadyJob]) -> int:
        with within(None), eager.raising_at_the_end(self._app):
            return self._publish_all(ready)

    def _publish_all(self, ready: Iterable[ReadyJob]) -> int:
        started, published = time.monotonic(), 0
        for chunk in chunked(ready, self._settings.chunk_size):
            if time.monotonic() - started > self._settings.lease_timeout / 2:
                keep_for_publishing(self._database, [job.id for job in chunk])
            armed: list[ReadyJob] = []
            sent = self._publish_chunk(chunk, armed)
            published += sent + (self.publish(armed) if armed else 0)
            if not sent:
                break
        return published

    def _publish_chunk(self, chunk: Sequence[ReadyJob], armed: list[ReadyJob]) -> int:
        """Publish one chunk; callbacks that became ready through it are added to `armed`."""
        if eager.is_eager(self._app.conf):
            for job in eager.in_turn(chunk):
                armed += self._send_or_fail(partial(eager.run, self._app), job)
            return len(chunk)
        sent: list[Published] = []
        try:
            with at_work(chunk), self._app.producer_pool.acquire(block=True) as pooled:
                producer, patterns = NotingProducer(pooled), Patterns(self._app, self._memory, chunk)
                with patterns.to(producer):
                    for job in chunk:
                        producer.queue = None
                        armed += self._send_or_fail(patterns.publish, job, self._send)
                        sent.append(Published(job.id, job.delivery, producer.queue, _delay(job.options)))
        except _BROKER_ERRORS as error:
            # With a pipeline it is unknown what arrived: a second message under the same number is dropped.
            logger.warning(
                "The broker could not be reached (%s); %d jobs stay ready, and the sweep publishes them "
                "after %g s.",
                error,
                len(chunk),
                self._settings.lease_timeout,
            )
            return 0
        mark_published(self._database, sent)
        return len(chunk)

    def _send_or_fail(self, send: Callable[..., None], job: ReadyJob, *more: Any) -> list[ReadyJob]:
        try:
            send(job, *more)
        except (*_BROKER_ERRORS, SoftTimeLimitExceeded):
            raise
        except Exception as error:
            logger.exception("Job %s (%s) can't be published, so it fails.", job.id, job.task)
            ending = Ending(job.id, JobState.FAILED, type(error).__name__, safe_text(error), delivery=job.delivery)
            return settle(self._database, ending, batch_id=job.batch_id, announces_id=job.announces_id)
        return []

    def _send(self, job: ReadyJob, producer: Any) -> None:
        options = decode_options(job.options)
        delivery = Delivery.of(job, options.pop(RETRIES, 0))
        options["headers"] = (options.get("headers") or {}) | {HEADER: delivery.write()}
        if options.pop("task_type", None):
            options["task_type"] = self._app.tasks.get(job.task)
        self._send_task(
            job.task,
            # As a call gives them: Celery writes them into the message as they look.
            tuple(decode(job.args)),
            decode(job.kwargs),
            task_id=job.id,
            producer=producer,
            add_to_parent=False,
            **options,
        )


class NotingProducer:
    """A kombu producer for one chunk: it notes where the last message went, and declares a queue once.

    Looking up for every message whether its queue is declared is a seventh of what publishing costs.
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._declared: list[Any] = []
        self.queue: str | None = None
        #: Body and options of the last message.
        self.noted: tuple[Any, dict[str, Any]] | None = None

    def publish(self, body: Any, *, declare: Any = None, **options: Any) -> Any:
        """Publish, as kombu's producer does."""
        # Celery names a queue in this way; any other exchange may lead to several, or to none.
        name = options.get("routing_key") if options.get("exchange") == "" else None
        # A route of the app's may name one that does not fit its column: whoever calls can't know.
        self.queue = name if name is None or len(name) <= LONGEST_KEY else None
        self.noted = (body, {**options, "declare": declare})
        missing = [entity for entity in declare or () if not any(entity is one for one in self._declared)]
        try:
            published = self._producer.publish(body, declare=missing, **options)
        except Exception as error:
            if self._is_closed:
                raise OperationalError(f"the connection was closed: {error}") from error
            raise
        self._declared += missing
        return published

    def push(self, key: str, text: str) -> bool:
        """Push a message that is a text already to a list of Redis; False: it is unknown whether it arrived.

        kombu's way, which tries again, is still to go then: a second message under the same number is dropped.
        """
        try:
            with self._producer.channel.conn_or_acquire() as client:
                client.lpush(key, text)
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            logger.info("A message could not be pushed as it was (%s); it is published again.", error)
            return False
        return True

    @property
    def is_plain(self) -> bool:
        """Whether kombu alone decides what becomes of a message."""
        return is_plain_producer(self._producer)

    @property
    def _is_closed(self) -> bool:
        # Where kombu connects anew while it declares, it goes on with the channel that it has closed, and meets
        # whatever is missing there.
        return getattr(getattr(self._producer, "_channel", None), "connection", self) is None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)


def _delay(options: str) -> float:
    """Seconds until a call may run."""
    if '"eta"' not in options and '"countdown"' not in options:
        return 0.0
    return delay_of(decode_options(options))


def chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of at most `size`, as they come."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
