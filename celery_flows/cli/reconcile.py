"""The command that repairs."""

from __future__ import annotations

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.target import Target
from celery_flows.messaging.sweep import sweep


@click.command(cls=FlowsCommand)
@click.pass_context
def reconcile(context: click.Context) -> None:
    """Repair now what a crash left behind, as each worker does from time to time."""
    swept = sweep(Target(context).runtime)
    click.echo(f"Jobs of dead workers given up: {swept.lost}")
    click.echo(f"Messages published: {swept.published}")
    click.echo(f"Expired jobs cancelled: {swept.expired}")
    click.echo(f"Jobs released that waited for others: {swept.released}")
    click.echo(f"Batches decided: {len(swept.batches)}")
    for batch_id in swept.batches:
        click.echo(f"  {batch_id}")
