"""Commands for the tables."""

from __future__ import annotations

import click

from celery_flows.cli.failures import FlowsCommand
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
        click.echo(f"The tables are at revision {schema.current(database)}.")


@click.command(cls=FlowsCommand, context_settings={"ignore_unknown_options": True})
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def downgrade(context: click.Context, revision: str, *, yes: bool) -> None:
    """Take the tables back to REVISION; "-1" is one step back.

    To "base" drops the tables, and with them all batches.
    """
    with Target(context).database() as database:
        if not yes:
            click.confirm(f"Take the tables back to {revision}? What they hold may be lost", abort=True)
        schema.downgrade(database, revision)
        click.echo(f"The tables are at revision {schema.current(database) or 'base: there are none'}.")


@click.command(cls=FlowsCommand)
@click.pass_context
def current(context: click.Context) -> None:
    """Show the revision of the tables."""
    with Target(context).database() as database:
        found = schema.current(database)
    if found is None:
        click.echo("none: there are no tables yet")
    elif found == schema.head():
        click.echo(f"{found} (the latest)")
    else:
        click.echo(f"{found} (the latest is {schema.head()})")


@click.command(cls=FlowsCommand)
@click.pass_context
def check(context: click.Context) -> None:
    """Exit with 0 if the tables are what this version needs, else with 1."""
    with Target(context).database() as database:
        schema.check(database)
        click.echo(f"The tables fit: they are at revision {schema.current(database)}.")


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
    click.echo(schema.sql(wanted, revision, prefix=target.settings.table_prefix, schema=target.settings.schema))
