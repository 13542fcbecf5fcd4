"""The command that lists workers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Column, Output
from celery_flows.cli.target import Target
from celery_flows.cli.words import age
from celery_flows.queries.workers import WorkerRecord
from celery_flows.queries.workers import workers as every_worker

_COLUMNS = [
    Column("HOST", lambda worker: worker["hostname"], gives_way=True),
    Column("PID", lambda worker: worker["pid"], is_number=True),
    Column("STATE", lambda worker: worker["state"], is_state=True),
    Column("JOBS", lambda worker: f"{worker['jobs']:,}", is_number=True),
    Column("UP", lambda worker: age(worker["up"]), is_number=True),
    Column("HEARD", lambda worker: f"{age(worker['silence'])} ago", is_number=True),
    Column("ID", lambda worker: worker["id"]),
]


@click.command(cls=FlowsCommand)
@click.pass_context
def workers(context: click.Context) -> None:
    """List worker processes, and when each was heard of.

    Producers with an open streaming block are among them.
    """
    target, out = Target(context), Output(context)
    with target.reading() as database:
        records = [_record(worker, target.settings.lease_timeout) for worker in every_worker(database)]
    out.table(records, _COLUMNS)
    if not any(one["state"] == "alive" for one in records):
        out.note("No worker is heard of now. Start one: celery -A your_project worker")


def _record(worker: WorkerRecord, lease: float) -> dict[str, Any]:
    """With how a worker stands: silent for half a lease, and dead after a whole one."""
    state = "alive" if worker.silence < lease / 2 else "silent" if worker.silence < lease else "dead"
    return {**asdict(worker), "state": state}
