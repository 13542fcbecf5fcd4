"""The Celery apps under test: one with Flows, one without, with the same task."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from celery_flows import Flows

#: Chords can't do without a result backend; it is the broker's Redis, or a Redis of its own.
_CONF = {
    "broker_url": os.environ["BENCH_BROKER_URL"],
    "result_backend": os.environ["BENCH_RESULT_URL"],
    "result_expires": 120,
    "broker_connection_retry_on_startup": True,
    "worker_prefetch_multiplier": 16,
    "worker_hijack_root_logger": False,
}

plain = Celery("plain", set_as_current=False)
plain.conf.update(_CONF, task_default_queue="bench_plain")

ours = Celery("ours")
ours.conf.update(_CONF, task_default_queue="bench_ours")
Flows(ours, database_url=os.environ["BENCH_DATABASE_URL"])


def nothing(number: int) -> None:
    """Do nothing: what is left is the cost of the machinery."""


def arrive(_results: object, marker: str) -> None:
    """The end of a run: the callback, or the last message in the queue."""
    Path(marker).touch()


job = ours.task(name="bench.nothing", ignore_result=True)(nothing)
callback = ours.task(name="bench.arrive", ignore_result=True)(arrive)

plain_job = plain.task(name="bench.nothing", ignore_result=True)(nothing)
plain_member = plain.task(name="bench.member", ignore_result=False)(nothing)
plain_callback = plain.task(name="bench.arrive", ignore_result=True)(arrive)
