"""The command that forgets finished batches."""

from __future__ import annotations

from collections.abc import Sequence

import click

from celery_flows.cli.consent import see_consent
from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.params import Age
from celery_flows.cli.target import Target
from celery_flows.cli.words import counted
from celery_flows.states import BatchState
from celery_flows.transitions.prune import FATES, count_prunable, fates_of
from celery_flows.transitions.prune import prune as prune_batches


@click.command(cls=FlowsCommand)
@click.option("--older-than", type=Age(), required=True, help="How long ago it finished: 30d, 12h, ...")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([*map(str, FATES)]), help="Only those that ended so."
)
@click.option("--dry-run", is_flag=True, help="Say how many, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def prune(context: click.Context, older_than: float, states: tuple[str, ...], *, dry_run: bool, yes: bool) -> None:
    """Forget finished batches, with their jobs and callbacks.

    Never what is unfinished or has callbacks still to run. It asks on a terminal; elsewhere it needs --yes.
    """
    target, out, fates = Target(context), Output(context), fates_of(states or FATES)
    if dry_run or not yes:
        number = _count(target, older_than, fates)
        found = f"{counted(number, 'batch', 'batches')}, and what is inside of {'it' if number == 1 else 'them'}"
        if dry_run:
            out.say({"dry_run": True, "batches": number}, f"Would prune {found}.")
            return
        see_consent(f"Prune {found}", yes=yes)
    number = _prune(target, older_than, fates)
    out.say({"dry_run": False, "batches": number}, f"Batches pruned: {number}")


def _count(target: Target, older_than: float, fates: Sequence[BatchState]) -> int:
    with target.reading() as database:
        return count_prunable(database, older_than, fates)


def _prune(target: Target, older_than: float, fates: Sequence[BatchState]) -> int:
    if target.has_app:
        return target.runtime.prune(older_than, fates)
    with target.reading() as database:
        return prune_batches(database, older_than, fates)
