"""Making the tables, and telling whether they are what this code needs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, column, func, inspect, select, table
from sqlalchemy.exc import DBAPIError

from celery_flows.errors import SchemaMissing, SchemaOutdated, UnknownRevision
from celery_flows.store.database import Database, is_missing_table
from celery_flows.store.revisions import HEAD, REQUIRED, Names
from celery_flows.store.tables import tables

#: Where Alembic finds the steps, installed or not.
_LOCATION: Final = "celery_flows.migrations:."

#: Databases for which `sql` can write.
DIALECTS: Final = ("postgresql", "mysql", "mariadb", "sqlite")

#: Answers Alembic's question whether to look at something that it found in the database.
NameFilter = Callable[[str | None, str, Mapping[str, Any]], bool]

#: Seconds for which an upgrade waits for another one to end.
_TURN_SECONDS: Final = 3600


def head() -> str:
    """The latest revision that this version of the package knows."""
    return HEAD


def current(database: Database) -> str | None:
    """The revision that a database is at, or None where there are no tables."""
    try:
        with database.reading() as connection:
            return _found(connection, _names(database))
    except DBAPIError as error:
        if is_missing_table(error):
            return None
        raise


def check(database: Database) -> None:
    """Refuse a database whose tables this code can't work with, in one statement.

    A schema that is newer than this code is not refused: `pre` steps are made while the code before
    them still runs, and whoever makes a `post` step has seen to it that none does.

    Raises:
        SchemaMissing: there are no tables.
        SchemaOutdated: they are older than this code, or at a revision that isn't ours.
    """
    found = current(database)
    if found is None:
        raise SchemaMissing
    if not found.isdigit() or int(found) < int(REQUIRED):
        raise SchemaOutdated(found=found, expected=REQUIRED)


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the tables to a revision; only one process at a time does so.

    A database that is newer than this code is left as it is.

    Args:
        revision: one of ours, or "head" for the latest.

    Raises:
        UnknownRevision: there is no such revision.
    """
    _migrate(database, revision, "upgrade")


def downgrade(database: Database, revision: str) -> None:
    """Take the tables back to an earlier revision; only one process at a time does so.

    Args:
        revision: one of ours, or "base" to drop the tables, and with them all batches.

    Raises:
        UnknownRevision: there is no such earlier revision, or the database is at one that is newer than this code.
    """
    _migrate(database, revision, "downgrade")


def sql(
    dialect: str,
    revision: str = "head",
    *,
    prefix: str = "flows_",
    schema: str | None = None,
    backwards: bool = False,
) -> str:
    """Write what an upgrade says to the database, without one.

    Args:
        dialect: one of `DIALECTS`.
        revision: where to end, or "from:to" for a database that has tables already.
        prefix: what the tables' names begin with.
        schema: PostgreSQL's schema that holds them.
        backwards: what a downgrade says, for which `revision` is "from:to".

    Raises:
        UnknownRevision: there is no such revision.
    """
    return _run("downgrade" if backwards else "upgrade", revision, Names(prefix, schema), dialect=dialect)


def step(connection: Connection, names: Names, before: str, after: str, *, backwards: bool = False) -> None:
    """Take one step in the caller's transaction, or undo it; where that has been done already, do nothing.

    Args:
        before: the revision before it, or "base".
        after: the revision after it.
        backwards: undo it.
    """
    with _turn(connection, names):
        found = _number(revision_on(connection, names))
        if backwards and found >= int(after):
            _run("downgrade", before, names, connection=connection)
        elif not backwards and found < int(after):
            _run("upgrade", after, names, connection=connection)


def include_name(prefix: str = "flows_", schema: str | None = None) -> NameFilter:
    """Make a filter for a project's own Alembic, so that its autogenerate leaves our tables alone.

    In the project's env.py: `context.configure(..., include_name=include_name())`.

    Args:
        prefix: the setting `table_prefix`.
        schema: the setting `schema`.
    """
    ours = {one.name for one in tables(prefix, schema).metadata.tables.values()} | {Names(prefix).version}

    def is_included(name: str | None, type_: str, parent_names: Mapping[str, Any]) -> bool:
        # Alembic says None for the connection's default schema, which may well be ours.
        is_our_schema = parent_names.get("schema_name") in (None, schema)
        return not (type_ == "table" and name in ours and is_our_schema)

    return is_included


def _migrate(database: Database, revision: str, command_name: str) -> None:
    with database.engine.connect() as connection:
        # Timeouts and MySQL's lock belong to the connection: it is closed after this, not used again.
        connection.detach()
        with connection.begin(), _turn(connection, _names(database)):
            if command_name == "upgrade" and _is_newer(connection, _names(database)):
                return
            _run(command_name, revision, _names(database), connection=connection)


@contextmanager
def _turn(connection: Connection, names: Names) -> Iterator[None]:
    """Wait until no other process changes these tables. SQLite's BEGIN IMMEDIATE has waited already."""
    name = f"celery_flows:{names.schema or ''}:{names.version}"
    if connection.dialect.name == "postgresql":
        # Held until the transaction ends, so that a pooler between us and the database doesn't mind.
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
        yield
    elif connection.dialect.name != "sqlite":
        # Such locks are the server's, not the database's; the connection's end would release them as well.
        key = func.sha1(func.concat(func.database(), name))
        connection.execute(select(func.get_lock(key, _TURN_SECONDS)))
        try:
            yield
        finally:
            connection.execute(select(func.release_lock(key)))
    else:
        yield


def _is_newer(connection: Connection, names: Names) -> bool:
    return _number(revision_on(connection, names)) > int(HEAD)


def revision_on(connection: Connection, names: Names) -> str | None:
    """The revision that a database is at, or None where there are no tables; asked without an error to meet."""
    has_version = inspect(connection).has_table(names.version, schema=names.schema)
    return _found(connection, names) if has_version else None


def _number(revision: str | None) -> int:
    return int(revision) if revision is not None and revision.isdigit() else 0


def _run(command_name: str, revision: str, names: Names, **attributes: Any) -> str:
    # Every worker imports this module, and only who changes the schema needs Alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    written = io.StringIO()
    config = Config(output_buffer=written, attributes={"names": names, **attributes})
    config.set_main_option("script_location", _LOCATION)
    try:
        getattr(command, command_name)(config, revision, sql="dialect" in attributes)
    except CommandError as error:
        problem = str(error).rstrip(".")
        raise UnknownRevision(revision=revision, problem=f"{problem}.", head=HEAD) from error
    return written.getvalue()


def _found(connection: Connection, names: Names) -> str | None:
    version = table(names.version, column("version_num"), schema=names.schema)
    found: str | None = connection.scalar(select(version.c.version_num))
    return found


def _names(database: Database) -> Names:
    metadata = database.tables.metadata
    return Names(metadata.info["prefix"], metadata.schema)
