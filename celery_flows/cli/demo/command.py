"""The command `celery-flows demo`."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import click

from celery_flows.cli import SETTINGS
from celery_flows.cli.demo.files import Folder, Unsuitable, list_files
from celery_flows.cli.demo.play import play
from celery_flows.cli.demo.stage import Stage, set_up
from celery_flows.cli.demo.tasks import JSON_VARIABLE
from celery_flows.cli.failures import FlowsCommand, UsedWrongly
from celery_flows.cli.output import Output

#: What is not part of the standard library's own source, and may change while it is read.
_NOT_STANDARD = frozenset({"__pycache__", "site-packages", "dist-packages"})


@click.command(cls=FlowsCommand)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--fail", is_flag=True, help="Let one job fail, and see what becomes of its batch.")
@click.option("--database-url", help="A real database, instead of SQLite in a temporary folder.")
@click.option("--broker-url", help="A real broker and worker processes, instead of ones inside this process.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="How many jobs run at once.")
@click.pass_context
def demo(
    context: click.Context,
    /,
    path: Path | None,
    *,
    fail: bool,
    database_url: str | None,
    broker_url: str | None,
    workers: int,
) -> None:
    """Hash and count every file under PATH, one job each.

    PATH is Python's standard library, if it is not given. Folders are child batches, callbacks write a manifest,
    and its totals are checked against the files.
    """
    root = _files(path)
    database_url = database_url or _asked_for(context)
    flows = {name: value for name, value in context.meta[SETTINGS].items() if name != "database_url"}
    # Trouble with the database is told about the one in use.
    context.meta[SETTINGS] = flows | {"database_url": database_url}
    out = Output(context)
    if out.is_json:
        os.environ[JSON_VARIABLE] = "1"
    with set_up(database_url, broker_url, workers, flows) as stage:
        _start(stage, root, out)
        if not play(stage, root, out, fail=fail):
            context.exit(1)


def _files(path: Path | None) -> Folder:
    try:
        if path is None:
            return list_files(Path(sysconfig.get_path("stdlib")), skip=_NOT_STANDARD)
        return list_files(path)
    except Unsuitable as error:
        raise UsedWrongly(str(error)) from error


def _asked_for(context: click.Context) -> str | None:
    """The URL written before the command; one in the environment is for work, not for a demo."""
    parent = context.parent
    if parent is None or parent.get_parameter_source("database_url") is not click.core.ParameterSource.COMMANDLINE:
        return None
    url: str = context.meta[SETTINGS]["database_url"]
    return url


def _start(stage: Stage, root: Folder, out: Output) -> None:
    folders, path = len(list(root.walk())), str(root.path)
    services = {
        "database": stage.shown_database,
        "broker": stage.shown_broker,
        "workers": stage.shown_workers,
    }
    said = [f"{root.count:,} files in {folders:,} folders under {path}"]
    said += [f"{name.capitalize() + ':':<9} {shown}" for name, shown in services.items()]
    out.say({"files": root.count, "folders": folders, "path": path, **services}, "\n".join(said))
