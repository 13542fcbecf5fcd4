"""The command that repairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.target import Target
from celery_flows.messaging.sweep import Swept, sweep


@click.command(cls=FlowsCommand)
@click.pass_context
def reconcile(context: click.Context) -> None:
    """Repair now what a crash left behind, as workers do."""
    target = Target(context)
    target.import_tasks()
    swept = sweep(target.runtime)
    Output(context).say(asdict(swept), "\n".join(_lines(swept)))


def _lines(swept: Swept) -> Iterator[str]:
    yield f"Jobs of dead workers given up: {swept.lost}"
    yield f"Messages published: {swept.published}"
    yield f"Expired jobs cancelled: {swept.expired}"
    yield f"Jobs released that waited for others: {swept.released}"
    yield f"Batches decided: {len(swept.batches)}"
    yield from (f"  {batch_id}" for batch_id in swept.batches)
