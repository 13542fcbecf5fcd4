"""The commands that cancel batches, and run them again."""

from __future__ import annotations

from typing import Any

import click

from celery_flows.cli.consent import see_consent
from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.target import Target
from celery_flows.cli.words import counted
from celery_flows.errors import BatchUnfinished
from celery_flows.messaging.steering import cancel_batch, retry_batch
from celery_flows.queries.batches import BatchRecord, batch, find_id
from celery_flows.queries.progress import total_progress
from celery_flows.settings import Settings
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.transitions.cancel import cancel as cancel_rows
from celery_flows.transitions.reopen import Mode


@click.command(cls=FlowsCommand)
@click.argument("batch_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--terminate", is_flag=True, help="End the jobs that run, too. This needs the app.")
@click.option("--dry-run", is_flag=True, help="Say what would end, and change nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def cancel(
    context: click.Context, batch_ids: tuple[str, ...], *, terminate: bool, dry_run: bool, yes: bool
) -> None:
    """End the batches ID... early, with all that is inside of them.

    Jobs that have not started are cancelled, those that run finish. It asks on a terminal; elsewhere it needs
    --yes.
    """
    target, out = Target(context), Output(context)
    if terminate:
        _ = target.runtime
    plans = [{**plan, "terminate": terminate} for plan in _read(target, batch_ids, _plan_of_cancel)]
    unfinished = [_cancel_words(plan) for plan in plans if not plan["is_finished"]]
    if unfinished and not dry_run:
        see_consent(f"Cancel {', '.join(unfinished)}", yes=yes)
    for plan in plans:
        left = 0 if dry_run else _cancel(target, plan["id"], terminate=terminate)
        said = f"{'Would cancel' if dry_run else 'Cancelled'} {_cancel_words(plan)}."
        if plan["is_finished"]:
            said = f"Batch {plan['id']} is finished ({plan['state']}): there is nothing to cancel."
        out.say({"dry_run": dry_run, **plan, "callbacks_left_to_sweep": left}, said)
        if left:
            out.note(_left_words(left, target.settings))


@click.command(cls=FlowsCommand)
@click.argument("batch_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--mode",
    type=click.Choice([*map(str, Mode)]),
    default=str(Mode.FAILED_AND_DOWNSTREAM),
    show_default=True,
    help="Which jobs run again: what went wrong, also what comes after it, or all.",
)
@click.option("--dry-run", is_flag=True, help="Say what went wrong, and run nothing.")
@click.pass_context
def retry(context: click.Context, batch_ids: tuple[str, ...], mode: str, *, dry_run: bool) -> None:
    """Run the finished batches ID... again.

    Each gets a new round, with new callbacks. This needs the app.
    """
    target, out = Target(context), Output(context)
    _ = target.runtime
    for plan in _read(target, batch_ids, _plan_of_retry):
        if not dry_run:
            target.import_tasks()
            retry_batch(target.runtime, plan["id"], Mode(mode))
        wrong = f"{plan['failed']:,} failed, {plan['cancelled']:,} cancelled or skipped"
        began = f"{'Would open' if dry_run else 'Opened'} round {plan['round']} of batch {plan['id']}"
        out.say({"dry_run": dry_run, "mode": mode, **plan}, f"{began}: of {counted(plan['jobs'], 'job')} {wrong}.")


def _read(target: Target, batch_ids: tuple[str, ...], plan: Any) -> list[dict[str, Any]]:
    """See that there are all of them, and what becomes of each, before anything is done."""
    with target.reading() as database:
        ids = dict.fromkeys(find_id(database, one) for one in batch_ids)
        return [plan(database, batch(database, one)) for one in ids]


def _plan_of_cancel(database: Database, record: BatchRecord) -> dict[str, Any]:
    progress = total_progress(database, record.id)
    return {
        "id": record.id,
        "state": record.state,
        "is_finished": record.settled_at is not None,
        "not_started": progress.pending - progress.running,
        "running": progress.running,
    }


def _cancel_words(plan: dict[str, Any]) -> str:
    end = "are ended" if plan["terminate"] else "may finish"
    running = f", and {plan['running']:,} that run and {end}" if plan["running"] else ""
    return f"batch {plan['id']} ({counted(plan['not_started'], 'job')} not started{running})"


def _left_words(left: int, settings: Settings) -> str:
    most = settings.lease_timeout + settings.sweep_interval
    waits = f"{counted(left, 'callback')} {'waits' if left == 1 else 'wait'}"
    return f"Without the app nothing is published: {waits} for the sweep, up to {most:g} s."


def _cancel(target: Target, batch_id: str, *, terminate: bool) -> int:
    """Cancel a batch; how many callbacks are left for the sweep to publish."""
    if target.has_app:
        target.import_tasks()
        cancel_batch(target.runtime, batch_id, terminate=terminate)
        return 0
    with target.database(on_first_use=schema.check) as database:
        return len(cancel_rows(database, batch_id).ready)


def _plan_of_retry(database: Database, record: BatchRecord) -> dict[str, Any]:
    """What is run again is seen when it is done.

    Raises:
        BatchUnfinished: it can't be run again yet.
    """
    if record.settled_at is None:
        raise BatchUnfinished(batch_id=record.id, state=str(record.state))
    progress = total_progress(database, record.id)
    return {
        "id": record.id,
        "round": record.round + 1,
        "jobs": progress.total,
        "failed": progress.failed,
        "cancelled": progress.cancelled,
    }
