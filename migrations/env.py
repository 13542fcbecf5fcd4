"""How Alembic runs the steps: on a connection that it is given, or as SQL for a dialect."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, inspect
from sqlalchemy.schema import CreateSchema

from celery_flows.store.revisions import names

#: A step that waits for a lock makes everybody else wait behind it: better that it gives up early.
LOCK_TIMEOUT_SECONDS = 10
STATEMENT_TIMEOUT_SECONDS = 900

TIMEOUTS = {
    "postgresql": (
        f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'",
        f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_SECONDS}s'",
    ),
    "mysql": (f"SET SESSION lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}",),
}
TIMEOUTS["mariadb"] = TIMEOUTS["mysql"]


def run_online(connection: Connection) -> None:
    """Run the steps in the transaction that the caller has opened."""
    for statement in TIMEOUTS.get(connection.dialect.name, ()):
        connection.exec_driver_sql(statement)
    try:
        run_steps(connection)
    finally:
        if connection.dialect.name in ("mysql", "mariadb"):
            # The connection may be one that goes on, such as Django's.
            connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")


def run_steps(connection: Connection) -> None:
    """Run the steps, in a schema that is there."""
    schema = names().schema
    # IF NOT EXISTS asks for the right to make schemas even where there is nothing to make.
    if schema is not None and not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema))
    context.configure(connection=connection, version_table=names().version, version_table_schema=schema)
    context.run_migrations()


def write_offline(dialect: str) -> None:
    """Write the steps as SQL, in a transaction where the database can do that for tables."""
    schema = names().schema
    context.configure(
        dialect_name=dialect,
        literal_binds=True,
        # SQLite can, but Alembic holds that it can't.
        transactional_ddl=dialect in ("postgresql", "sqlite"),
        version_table=names().version,
        version_table_schema=schema,
    )
    with context.begin_transaction():
        for statement in TIMEOUTS.get(dialect, ()):
            context.execute(statement)
        if schema is not None:
            context.execute(CreateSchema(schema, if_not_exists=True))
        context.run_migrations()


if context.is_offline_mode():
    write_offline(context.config.attributes["dialect"])
else:
    run_online(context.config.attributes["connection"])
