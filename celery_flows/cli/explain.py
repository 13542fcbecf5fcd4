"""The command that says why a batch is not finished."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.target import Target
from celery_flows.queries.batches import find_id
from celery_flows.queries.explain import Explanation
from celery_flows.queries.explain import explain as explanation


@click.command(cls=FlowsCommand)
@click.argument("batch_id", metavar="ID")
@click.pass_context
def explain(context: click.Context, batch_id: str) -> None:
    """Say what the batch ID waits for, and what happens next."""
    target = Target(context)
    with target.reading() as database:
        found = explanation(database, find_id(database, batch_id), target.settings)
    Output(context).say(_record(found), str(found))


def _record(found: Explanation) -> dict[str, Any]:
    return {
        "id": found.batch.id,
        "state": found.batch.state,
        "reasons": [asdict(reason) for reason in found.reasons],
        "more": found.more,
        "failed_callbacks": [asdict(reason) for reason in found.failed_callbacks],
    }
