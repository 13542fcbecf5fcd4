"""Checks of the database: the server, its isolation, its clock, and our tables in it."""

from __future__ import annotations

import re
from typing import Final

from celery_flows.cli.doctor.finding import Finding, ok, warning, wrong
from celery_flows.errors import SchemaMissing, SchemaOutdated
from celery_flows.queries.health import Server
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.store.urls import masked

#: Seconds by which clocks may differ before it matters, and before it does harm.
_APART: Final = 5.0
_FAR_APART: Final = 300.0

#: Seconds that an answer may take.
_SLOW: Final = 0.1

_UPGRADE: Final = "celery -A your_project flows upgrade (in a Django project: manage.py migrate)"


def database(url: str, found: Server) -> Finding:
    """Whether it answers, and takes what is new."""
    said = f"{name_of(url, found.version)} at {masked(url)} answers in {found.answer * 1000:.1f} ms"
    if found.is_read_only:
        return wrong("database", f"{said}, and is read-only.", "Name the primary server: this may be a standby.")
    if found.answer > _SLOW:
        remedy = "Each job takes three such answers, one after another: put workers near the database."
        return warning("database", f"{said}.", remedy)
    return ok("database", f"{said}.")


def name_of(url: str, version: str) -> str:
    """A server's name and version, in few words."""
    number = re.search(r"\d+(\.\d+)*", version)
    names = (("MariaDB", "-mariadb" in version.lower()), ("SQLite", url.startswith("sqlite")))
    name = next((name for name, is_it in names if is_it), "PostgreSQL" if "PostgreSQL" in version else "MySQL")
    return f"{name} {number[0] if number else version}"


def tables(database: Database) -> Finding:
    """Whether our tables are what this version needs."""
    found, head = schema.current(database), schema.head()
    try:
        schema.check(database)
    except SchemaMissing:
        return wrong("schema", "There are no tables.", f"Make them: {_UPGRADE}")
    except SchemaOutdated as error:
        return wrong("schema", str(error), f"Bring them up: {_UPGRADE}")
    if found == head:
        return ok("schema", f"The tables are at revision {found}, the latest.")
    if found is not None and found > head:
        remedy = "That is well for as long as a deploy takes: newer code has made them so."
        return warning("schema", f"The tables are at revision {found}, and this version knows {head}.", remedy)
    remedy = f"A step is left for when no older code runs any more: {_UPGRADE}"
    return warning("schema", f"The tables are at revision {found}, and the latest is {head}.", remedy)


def isolation(dialect: str, found: Server) -> Finding:
    """Whether our transactions see what they must."""
    if found.logs_statements:
        fact = "The server logs statements (binlog_format = STATEMENT), which it can't at READ COMMITTED."
        return wrong("isolation", fact, "Set binlog_format to ROW or MIXED on the server.")
    if dialect == "sqlite":
        return _of_sqlite(found)
    if found.isolation != "READ COMMITTED":
        fact = f"Our transactions are {found.isolation}, and the protocol needs READ COMMITTED."
        return wrong("isolation", fact, "Look what changes it between us and the server: a pooler, or a listener.")
    default = found.default_isolation
    aside = "" if default == found.isolation else f" (the server's default is {default})"
    return ok("isolation", f"Our transactions are READ COMMITTED{aside}.")


def _of_sqlite(found: Server) -> Finding:
    if found.isolation != "WAL":
        fact = f"The journal mode is {found.isolation}, so that who writes keeps others from reading."
        return warning("isolation", fact, "Put the file on a local disk: network file systems have no WAL.")
    return ok("isolation", "Our transactions begin IMMEDIATE, and the journal mode is WAL.")


def clock(found: Server) -> Finding:
    """Whether this machine and the database agree about the time."""
    apart = abs(found.ahead)
    which = "ahead of" if found.ahead > 0 else "behind"
    fact = f"The database's clock is {apart:.1f} s {which} this machine's."
    remedy = (
        "Let both keep time by NTP. Leases go by the database's clock alone; countdowns, expiry and the "
        "order of ids go by that of who sends."
    )
    if apart > _FAR_APART:
        return wrong("clock", fact, remedy)
    if apart > _APART:
        return warning("clock", fact, remedy)
    return ok("clock", "The database's clock and this machine's agree.")
