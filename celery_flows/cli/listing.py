"""The command that lists batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.params import Age
from celery_flows.cli.records import batch_columns, of_batch
from celery_flows.cli.target import Target
from celery_flows.codec import safe_text
from celery_flows.queries.batches import find_id, wanted_batches
from celery_flows.queries.progress import progress
from celery_flows.states import BATCH_KINDS, BatchState
from celery_flows.store.database import Database
from celery_flows.store.lists import Wanted

#: Batches on a page.
_PAGE: Final = 20


@click.command("list", cls=FlowsCommand)
@click.option("--state", type=click.Choice([*map(str, BatchState)]), help="Only those in this state.")
@click.option("--kind", help=f"Only those of this kind: {', '.join(BATCH_KINDS)}, or a flow class's own.")
@click.option("--description", metavar="TEXT", help="Only those with this in their description.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--newer-than", type=Age(), help="Only those made since: 2h, 7d, ...")
@click.option("--older-than", type=Age(), help="Only those made before that.")
@click.option("--parent", metavar="ID", help="Only the children of this batch.")
@click.option("--top", is_flag=True, help="Only those that are no child of another.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=_PAGE, show_default=True, help="At most so many.")
@click.option("--after", metavar="ID", help="Go on behind this one: the last of the page before.")
@click.pass_context
def list_batches(
    context: click.Context,
    /,
    state: str | None,
    kind: str | None,
    description: str | None,
    tag: str | None,
    newer_than: float | None,
    older_than: float | None,
    parent: str | None,
    *,
    top: bool,
    limit: int,
    after: str | None,
) -> None:
    """List batches, the newest first."""
    out = Output(context)
    with Target(context).reading() as database:
        wanted = Wanted(
            state=None if state is None else BatchState(state),
            kind=None if kind is None else safe_text(kind),
            since=_ago(newer_than),
            before=_ago(older_than),
            tag=None if tag is None else safe_text(tag),
            description=None if description is None else safe_text(description),
            parent_id=None if parent is None else find_id(database, parent),
            is_top=top,
            after=None if after is None else find_id(database, after),
        )
        _list(database, wanted, limit, out)


def _list(database: Database, wanted: Wanted, limit: int, out: Output) -> None:
    found = wanted_batches(database, wanted, limit + 1)
    records = [of_batch(one, progress(database, one.id)) for one in found[:limit]]
    out.table(records, batch_columns(out))
    if not found:
        out.note(_nothing(wanted))
    if len(found) > limit:
        out.note(f"There are more: --after {records[-1]['id']}")


def _nothing(wanted: Wanted) -> str:
    if wanted == Wanted():
        return "There are no batches."
    if wanted.kind is not None and wanted.kind not in BATCH_KINDS:
        return f"No batch fits. Kinds are {', '.join(BATCH_KINDS)}, and those that flow classes have of their own."
    return "No batch fits." if wanted.after is None else "No more batches fit."


def _ago(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)
