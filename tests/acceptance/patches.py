"""What tests change in another process: crashes at a chosen moment, orders of events, counters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from acceptance.making import seen, wait_for_file
from celery import signals

from celery_flows.codec import encode
from celery_flows.messaging import capture, gate, lease, publisher
from celery_flows.messaging.claims import Claim
from celery_flows.messaging.publisher import Publisher
from celery_flows.store import jobs
from celery_flows.store.publishing import Published, ReadyJob
from celery_flows.transitions import settle
from celery_flows.transitions.publish import mark_published
from celery_flows.transitions.retry_job import NextAttempt, retry_job


def _die_once(where: str) -> None:
    """End this process at once, as a power cut would, if no other process of the test did so here before."""
    with suppress(FileExistsError):
        os.close(os.open(f"{os.environ['FLOWS_ACCEPTANCE_SEEN']}.{where}", os.O_CREAT | os.O_EXCL))
        seen("died", where)
        os._exit(9)


def die_before_publishing() -> None:
    """Between the commit of a block and its first message."""
    _die_before_publishing("publishing", lambda _: True)


def die_before_marking() -> None:
    """Between a block's messages and the note that they were sent."""
    publisher.mark_published = lambda *_: _die_once("marking")  # type: ignore[assignment]


def die_before_probe() -> None:
    """Between a job's outcome and the look whether its batch can be decided."""
    own = settle.advance

    def advance(*args: Any, **kwargs: Any) -> Any:
        _die_once("probe")
        return own(*args, **kwargs)

    settle.advance = advance


def die_before_callback() -> None:
    """Between a batch's fate and the messages of its callbacks."""
    _die_before_publishing("callback", lambda job: job.kind == "callback")


def _die_before_publishing(where: str, is_meant: Callable[[ReadyJob], bool]) -> None:
    own = Publisher.publish

    def publish(self: Publisher, ready: Iterable[ReadyJob]) -> int:
        ready = list(ready)
        if any(is_meant(job) for job in ready):
            _die_once(where)
        return own(self, ready)

    Publisher.publish = publish  # type: ignore[method-assign]


def mark_after_claim() -> None:
    """Mark retries as published only when another worker thread has claimed them."""
    publisher.mark_published = marking_late(lambda one: one.delivery > 1)


def marking_late(is_late: Callable[[Published], bool]) -> Callable[..., None]:
    """A `mark_published` that first waits until workers have claimed what it is to mark."""

    def mark(database: Any, published: Iterable[Published]) -> None:
        published = list(published)
        for one in published:
            if is_late(one):
                _await_claim(database, one)
        mark_published(database, published)

    return mark


def _await_claim(database: Any, one: Published) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with database.reading() as connection:
            row = jobs.find(connection, database.tables, one.job_id)
        if row is not None and (row.delivery != one.delivery or row.state not in ("ready", "queued", "retrying")):
            seen("claimed before the mark", one.job_id)
            return
        time.sleep(0.02)


def publish_before_row() -> None:
    """The naive retry: send the next attempt, then write it down."""

    def naive(claim: Claim, name: str, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
        delivery, runtime = claim.delivery, claim.runtime
        texts = (name, encode(list(args)), encode(kwargs), "{}")
        sent = ReadyJob(delivery.job_id, delivery.batch_id, None, "task", "retrying", *texts, delivery.number + 1)
        with runtime.app.producer_pool.acquire(block=True) as producer:
            runtime.publisher._send(sent, producer)
        seen("sent", delivery.job_id)
        wait_for_file(os.environ["FLOWS_ACCEPTANCE_SEEN"] + ".gate")
        retry_job(runtime.database, NextAttempt(delivery.job_id, delivery.number, str(delivery.token), *texts))
        mark_published(runtime.database, [Published(sent.id, sent.delivery)])

    capture.publish_next = naive  # type: ignore[assignment]


def trace_wire() -> None:
    """Let PostgreSQL's client library write down each message of this process, in a file of its own."""
    from sqlalchemy import event, pool

    def trace(connection: Any, record: Any) -> None:
        path = f"{os.environ['FLOWS_ACCEPTANCE_SEEN']}.wire-{os.getpid()}"
        connection.pgconn.trace(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY))

    event.listen(pool.Pool, "connect", trace)


def note_signals() -> None:
    """Say which of Celery's signals about a task were sent."""
    for name in ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry"):

        def note(sender: Any, name: str = name, **details: Any) -> None:
            request = getattr(sender, "request", None)
            seen("signal", details.get("task_id") or getattr(request, "id", None), name)

        getattr(signals, name).connect(note, weak=False)


def reconcile_often() -> None:
    """Let beat ask for a pass of the sweep every half second."""
    from acceptance.app import app

    app.conf.beat_schedule = {"reconcile": {"task": "celery_flows.reconcile", "schedule": 0.5}}


def pid_one() -> None:
    """Let the worker's lease say that it is process 1, as it is in every container."""
    lease.os = SimpleNamespace(getpid=lambda: 1)  # type: ignore[assignment]


def fault_points() -> None:
    """Let the test arm points at which this process crashes, raises or waits."""
    import_module("acceptance.faults").patch()


def lose_outcomes() -> None:
    """Let the outcome of each task that is no callback be refused by the database."""
    own = gate.end

    def end(runtime: Any, delivery: Any, *args: Any, **kwargs: Any) -> None:
        if delivery.announces_id is None:
            raise ValueError("as if the database refused it")
        own(runtime, delivery, *args, **kwargs)

    gate.end = end


def die_before_claim() -> None:
    """When a message was acknowledged, and its job is about to be claimed."""
    own = gate.claim

    def claim(*args: Any) -> int | None:
        _die_once("claim")
        return own(*args)

    gate.claim = claim
