"""The command that forgets finished batches."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.target import Target
from celery_flows.transitions.prune import FATES, fates_of
from celery_flows.transitions.prune import prune as prune_batches

#: Seconds in a unit.
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType):  # type: ignore[type-arg] # generic in newer releases only
    """A time such as 30d or 12h."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no age: write a number and s, m, h, d or w, such as 30d.", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command(cls=FlowsCommand)
@click.option("--older-than", type=Age(), required=True, help="How long ago it finished: 30d, 12h, ...")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([*map(str, FATES)]), help="Only those that ended so."
)
@click.pass_context
def prune(context: click.Context, older_than: float, states: tuple[str, ...]) -> None:
    """Forget finished batches, with their jobs and callbacks.

    Never what is unfinished or has callbacks still to run.
    """
    target, fates = Target(context), fates_of(states or FATES)
    if target.has_app:
        number = target.runtime.prune(older_than, fates)
    else:
        with target.database() as database:
            number = prune_batches(database, older_than, fates)
    click.echo(f"Batches pruned: {number}")
