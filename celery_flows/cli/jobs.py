"""The command that lists the jobs of a batch."""

from __future__ import annotations

from typing import Final

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.records import job_columns, of_job
from celery_flows.cli.target import Target
from celery_flows.codec import safe_text
from celery_flows.queries.batches import find_id
from celery_flows.queries.jobs import jobs_page
from celery_flows.states import TERMINAL, JobState

#: A word for all states in which a job has not ended.
_PENDING: Final = "pending"

_UNFINISHED: Final = tuple(state for state in JobState if state not in TERMINAL)


@click.command(cls=FlowsCommand)
@click.argument("batch_id", metavar="ID")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*map(str, JobState), _PENDING]),
    help="Only those in this state, as often as needed; pending: those that have not ended.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@click.option("--after", metavar="JOB", default="", help="Go on behind this one: the last of the page before.")
@click.pass_context
def jobs(context: click.Context, batch_id: str, states: tuple[str, ...], limit: int, after: str) -> None:
    """List the jobs of the batch ID, in the order of their ids.

    With --json come their arguments, too.
    """
    target, out = Target(context), Output(context)
    wanted = [one for state in states for one in ([*_UNFINISHED] if state == _PENDING else [JobState(state)])]
    with target.reading() as database:
        batch_id = find_id(database, batch_id)
        found = jobs_page(
            database, batch_id, states=wanted, after=safe_text(after), limit=limit + 1, redact=target.redact
        )
    records = [of_job(job) for job in found[:limit]]
    out.table(records, job_columns())
    if not found:
        out.note("No job fits." if states or after else "It has no jobs.")
    if len(found) > limit:
        out.note(f"There are more: --after {records[-1]['id']}")
