"""Commands for the tables."""

from __future__ import annotations

import click

from celery_flows.cli.consent import see_consent
from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.target import Target
from celery_flows.store import schema
from celery_flows.store.urls import dialect_of


@click.command(cls=FlowsCommand)
@click.argument("revision", default="head")
@click.pass_context
def upgrade(context: click.Context, revision: str) -> None:
    """Make the tables, or bring them up to REVISION (the latest).

    May be run by several processes at once: one of them does the work, the others wait for it.
    """
    with Target(context).database() as database:
        schema.upgrade(database, revision)
        found = schema.current(database)
    Output(context).say({"revision": found}, f"The tables are at revision {found}.")


@click.command(cls=FlowsCommand, context_settings={"ignore_unknown_options": True})
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def downgrade(context: click.Context, revision: str, *, yes: bool) -> None:
    """Take the tables back to REVISION; "-1" is one step back.

    To "base" drops the tables, and with them all batches.
    """
    with Target(context).database() as database:
        see_consent(f"Take the tables back to {revision}, and lose what they hold", yes=yes)
        schema.downgrade(database, revision)
        found = schema.current(database)
    said = f"The tables are at revision {found or 'base: there are none'}."
    Output(context).say({"revision": found}, said)


@click.command(cls=FlowsCommand)
@click.pass_context
def current(context: click.Context) -> None:
    """Show the revision of the tables."""
    with Target(context).database() as database:
        found = schema.current(database)
    latest = schema.head()
    if found is None:
        said = "none: there are no tables yet"
    else:
        said = f"{found} (the latest)" if found == latest else f"{found} (the latest is {latest})"
    Output(context).say({"revision": found, "latest": latest}, said)


@click.command(cls=FlowsCommand)
@click.pass_context
def check(context: click.Context) -> None:
    """Exit with 0 if the tables fit this version, else with 1."""
    with Target(context).database() as database:
        schema.check(database)
        found = schema.current(database)
    Output(context).say({"revision": found, "fits": True}, f"The tables fit: they are at revision {found}.")


@click.command(cls=FlowsCommand)
@click.argument("revision", default="head")
@click.option(
    "--dialect",
    type=click.Choice(schema.DIALECTS),
    help="Which database's SQL; by default the URL's, which says mysql for MariaDB too.",
)
@click.pass_context
def sql(context: click.Context, revision: str, dialect: str | None) -> None:
    """Print the SQL of an upgrade to REVISION, without a database.

    "0001:0002" is for tables that are at the first of them.
    """
    target = Target(context)
    wanted = dialect or dialect_of(target.url)
    written = schema.sql(wanted, revision, prefix=target.settings.table_prefix, schema=target.settings.schema)
    Output(context).say({"dialect": wanted, "revision": revision, "sql": written}, written)
