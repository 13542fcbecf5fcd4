"""The command `doctor`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Final

import click

from celery_flows.cli.doctor import app, server, upkeep
from celery_flows.cli.doctor.finding import Finding, Verdict, left_out, ok, wrong
from celery_flows.cli.failures import FAILED, UNREACHABLE, FlowsCommand
from celery_flows.cli.output import Output, lines
from celery_flows.cli.target import Target
from celery_flows.cli.words import counted
from celery_flows.errors import FlowsError, InvalidSetting, UnknownSetting
from celery_flows.queries import health
from celery_flows.queries.workers import WorkerRecord, workers
from celery_flows.store.database import Database
from celery_flows.store.troubles import trouble
from celery_flows.store.urls import masked

#: How people are shown verdicts.
_COLOURS: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red", Verdict.LEFT_OUT: "blue"}

#: What is looked at where the database answers, where it has our tables, and where there is an app.
_OF_TABLES: Final = ("sweep", "workers", "lag")
_OF_APP: Final = ("settings", "broker", "beat", "consumers", "tasks")

Findings = Iterator[Finding]


@click.command(cls=FlowsCommand)
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look whether all is well, and say what to do where not.

    Nothing is changed. Ends with 0 where nothing is wrong, 1 where something is, 6 where the database can't be
    reached.
    """
    target, out = Target(context), Output(context)
    patient = Patient(target)
    verdicts = []
    for finding in patient.examined():
        verdicts.append(finding.verdict)
        out.say(asdict(finding), "\n".join(_written(finding)))
    is_wrong = verdicts.count(Verdict.WRONG)
    out.note(f"{counted(is_wrong, 'thing')} wrong, {counted(verdicts.count(Verdict.WARNING), 'warning')}.")
    if patient.is_unreachable or is_wrong:
        context.exit(UNREACHABLE if patient.is_unreachable else FAILED)


def _written(finding: Finding) -> Iterator[str]:
    word = click.style(f"{finding.verdict:<8}", fg=_COLOURS[finding.verdict])
    yield f"{word}  {finding.check:<10}  {' '.join(lines(finding.fact))}"
    if finding.remedy:
        yield f"{'':<8}  {'':<10}  → {' '.join(lines(finding.remedy))}"


class Patient:
    """What is looked at: a database, and an app where there is one."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._upkeep: health.Upkeep | None = None
        self._workers: list[WorkerRecord] = []
        #: Whether the database could not be reached.
        self.is_unreachable = False

    def examined(self) -> Findings:
        """Look at everything, the first things first."""
        yield ok("versions", _versions())
        try:
            settings = self._target.settings
        except (InvalidSetting, UnknownSetting) as error:
            yield wrong("settings", str(error), "Mend it: nothing else can be looked at before.")
            return
        with self._target.database() as database:
            yield from self._database(database)
            if self._target.has_app:
                yield from app.settings(self._target.runtime.app, settings)
                yield from self._app(database)
            else:
                why = "It needs your app: celery -A your_project flows doctor"
                yield from (left_out(check, why) for check in _OF_APP)

    # ------------------------------------------------------------ the database

    def _database(self, database: Database) -> Findings:
        try:
            found = health.server(database)
        except Exception as error:
            yield self._unreachable(error)
            why = "The database can't be reached."
            yield from (left_out(check, why) for check in ("schema", "isolation", "clock", *_OF_TABLES))
            return
        yield server.database(self._target.url, found)
        yield server.isolation(database.dialect, found)
        yield server.clock(found)
        yield (schema := server.tables(database))
        if schema.verdict is Verdict.WRONG:
            yield from (left_out(check, "The tables are not there yet.") for check in _OF_TABLES)
        else:
            yield from _guarded("lag", lambda: self._rows(database))

    def _unreachable(self, error: Exception) -> Finding:
        found = trouble(error)
        if isinstance(error, FlowsError):
            return wrong("database", str(error))
        if found is None:
            raise error
        self.is_unreachable = found.is_unreachable
        said = "can't be reached" if found.is_unreachable else "refused"
        remedy = "Start it, or mend the URL: host, port, name, user, password."
        return wrong("database", f"{masked(self._target.url)} {said}: {found.words}", remedy)

    def _rows(self, database: Database) -> Findings:
        settings = self._target.settings
        self._upkeep, self._workers = health.upkeep(database), workers(database)
        yield upkeep.sweep(self._upkeep, settings)
        yield from upkeep.workers(self._workers, self._upkeep, settings, database.dialect)
        yield from upkeep.lag(self._upkeep, settings)

    # ------------------------------------------------------------ the app

    def _app(self, database: Database) -> Findings:
        registered, found = app.registered(self._target.runtime), self._upkeep
        yield (sends := app.broker(registered))
        yield app.beat(registered)
        if sends.verdict is Verdict.OK:
            yield from app.consumers(registered, found.queues if found else {}, self._leases())
        else:
            yield left_out("consumers", "No worker can be asked over this broker.")
        if found is None:
            yield left_out("tasks", "What is to run is not known.")
        else:
            yield from _guarded("tasks", lambda: iter([app.tasks(registered, health.tasks(database))]))

    def _leases(self) -> int | None:
        """How many workers hold a lease; None: it is not known."""
        if self._upkeep is None:
            return None
        return sum(one.silence < self._target.settings.lease_timeout / 2 for one in self._workers)


def _guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Findings:
    """Look, and say so where the database refuses: what else there is to see is looked at."""
    try:
        yield from look()
    except Exception as error:
        found = trouble(error)
        if found is None:
            raise
        yield wrong(check, f"The database refused: {found.words}", "See that this user may read our tables.")


def _versions() -> str:
    packages = ("celery-flows", "celery", "kombu", "SQLAlchemy")
    return ", ".join([*(f"{name} {version(name)}" for name in packages), f"Python {platform.python_version()}"])
