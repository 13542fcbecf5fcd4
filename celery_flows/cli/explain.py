"""The command that says why a batch is not finished."""

from __future__ import annotations

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.target import Target
from celery_flows.queries.explain import explain as explanation


@click.command(cls=FlowsCommand)
@click.argument("batch_id", metavar="ID")
@click.pass_context
def explain(context: click.Context, batch_id: str) -> None:
    """Say what the batch ID waits for, since when, and what happens next."""
    target = Target(context)
    with target.database() as database:
        click.echo(str(explanation(database, batch_id, target.settings)))
