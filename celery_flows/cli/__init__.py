"""The command line: `celery -A project flows ...`, and `celery-flows ...` where there is no app.

Celery imports this module for each of its commands: what a command needs is imported when it runs.
"""

from __future__ import annotations

from typing import Any, Final

import click

from celery_flows.cli.lazy import LazyGroup
from celery_flows.settings import DATABASE_URL_VARIABLE as _URL

#: Where a group leaves for its commands what they are about: a Celery app, or settings.
APP: Final = "celery_flows.app"
SETTINGS: Final = "celery_flows.settings"

#: Where a command keeps whether it was asked for JSON.
JSON: Final = "celery_flows.json"

_SHARED: Final = {
    "upgrade": "celery_flows.cli.schema:upgrade",
    "downgrade": "celery_flows.cli.schema:downgrade",
    "current": "celery_flows.cli.schema:current",
    "check": "celery_flows.cli.schema:check",
    "sql": "celery_flows.cli.schema:sql",
    "list": "celery_flows.cli.listing:list_batches",
    "show": "celery_flows.cli.show:show",
    "watch": "celery_flows.cli.watch:watch",
    "jobs": "celery_flows.cli.jobs:jobs",
    "cancel": "celery_flows.cli.steering:cancel",
    "retry": "celery_flows.cli.steering:retry",
    "workers": "celery_flows.cli.workers:workers",
    "reconcile": "celery_flows.cli.reconcile:reconcile",
    "explain": "celery_flows.cli.explain:explain",
    "graph": "celery_flows.cli.graph:graph",
    "doctor": "celery_flows.cli.doctor:doctor",
    "prune": "celery_flows.cli.prune:prune",
}

_APPS: Final = {
    "templates": "celery_flows.cli.templates:templates",
    "run": "celery_flows.cli.templates:run",
}

_OWN: Final = {"demo": "celery_flows.cli.demo:demo"}

_EPILOG: Final = (
    "Exit codes: 0 done, or the watched batch is complete; 1 it failed, or the tables are missing or out of date; "
    "2 used wrongly; 3 no such batch; 4 the time was up; 5 the batch was cancelled; 6 the database can't be "
    "reached; 130 left by Ctrl-C."
)


@click.group(cls=LazyGroup, commands_at=_SHARED | _APPS, epilog=_EPILOG)
@click.pass_context
def flows(context: click.Context) -> None:
    """Look at batches and steer them, repair what a crash left behind, look after the tables, and start flows."""
    # Not in `context.obj`, which Celery's own commands and errors go on using.
    context.meta[APP] = context.obj.app


@click.group(cls=LazyGroup, commands_at=_SHARED | _OWN, epilog=_EPILOG)
@click.option("--database-url", envvar=_URL, show_envvar=True, help="SQLAlchemy URL of the database.")
@click.option("--table-prefix", help="What the tables' names begin with (flows_).")
@click.option("--schema", help="PostgreSQL's schema that holds the tables.")
@click.version_option(package_name="celery-flows")
@click.pass_context
def main(context: click.Context, /, **settings: Any) -> None:
    """Look at batches, cancel them and look after their tables without a Celery app, or watch the demo."""
    context.meta[SETTINGS] = {name: value for name, value in settings.items() if value is not None}
