"""The schema: what the migrations make, and how code and schema find out that they don't fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from celery_flows.errors import SchemaMissing, SchemaOutdated, UnknownRevision
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.store.revisions import HEAD, REQUIRED
from celery_flows.store.tables import PARTIAL

NewUrl = Callable[[], str]

OTHER_NAMES = {"prefix": "other_"}


@contextmanager
def opened(url: str, **options: str) -> Iterator[Database]:
    """The door to a database, closed at the end."""
    with closing(Database(url, **options)) as database:
        yield database


def names_of(database: Database) -> set[str]:
    """The tables that a database has, where ours should be."""
    return set(sa.inspect(database.engine).get_table_names(schema=database.tables.metadata.schema))


def write_version(database: Database, revision: str) -> None:
    """Let a database say that it is at a revision."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE flows_version SET version_num = '{revision}'")


# ---------------------------------------------------------------- what the migrations make


def test_migrations_make_what_the_code_describes(new_database_url: NewUrl) -> None:
    """Alembic finds no difference between the migrated tables and the descriptions in the store."""
    with opened(new_database_url()) as database:
        schema.upgrade(database)
        with database.reading() as connection:
            opts = {"compare_type": True, "include_object": is_for(database.dialect)}
            context = MigrationContext.configure(connection, opts=opts)
            steps = compare_metadata(context, database.tables.metadata)
        assert [(step[0], step[1].name) for step in steps] == [("remove_table", "flows_version")]


def is_for(dialect: str) -> Callable[..., bool]:
    """Whether something is made on a database: MySQL and MariaDB do without the index over parts."""
    return lambda _, name, *__: dialect in PARTIAL or name != "flows_jobs_part"


def test_migrated_and_described_tables_are_the_same_to_the_database(
    new_database_url: NewUrl, database_kind: str
) -> None:
    """Collations, generated columns, partial indexes and engines agree too, which Alembic doesn't compare."""
    with opened(new_database_url()) as migrated, opened(new_database_url()) as described:
        schema.upgrade(migrated)
        described.tables.metadata.create_all(described.engine)
        assert description(migrated, database_kind) == description(described, database_kind)


def description(database: Database, kind: str) -> list[tuple[object, ...]]:
    """How the database itself describes our tables."""
    found: list[tuple[object, ...]] = []
    with database.reading() as connection:
        for table in sorted(database.tables.metadata.tables):
            for question in QUESTIONS[kind]:
                rows = connection.exec_driver_sql(question.replace("TABLE_NAME", table)).all()
                found += sorted(tuple(map(in_any_order, row)) for row in rows)
    return found


def in_any_order(value: object) -> object:
    """The lines of a definition, sorted: indexes may have been made in another order."""
    return sorted(line.rstrip(",") for line in str(value).splitlines())


IS_GENERATED = (
    "SELECT instr(sql, 'GENERATED ALWAYS AS (CASE WHEN state IN (''complete'', ''failed'', ''cancelled'', "
    "''skipped'') THEN state END) STORED') > 0 FROM sqlite_master WHERE name = 'TABLE_NAME'"
)
COLUMNS = (
    "SELECT column_name, data_type, character_maximum_length, is_nullable, collation_name, is_generated, "
    "generation_expression FROM information_schema.columns WHERE table_name = 'TABLE_NAME'"
)
QUESTIONS = {
    "postgresql": (
        COLUMNS,
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'TABLE_NAME'",
        "SELECT conname, contype FROM pg_constraint WHERE conrelid = 'TABLE_NAME'::regclass",
    ),
    "mariadb": ("SHOW CREATE TABLE TABLE_NAME",),
    "sqlite": (
        "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo('TABLE_NAME')",
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'TABLE_NAME'",
        IS_GENERATED,
    ),
}


def test_up_down_up(new_database_url: NewUrl) -> None:
    """Every step can be taken back, leaves nothing behind, and can be made again."""
    with opened(new_database_url()) as database:
        schema.upgrade(database)
        before = names_of(database)
        schema.downgrade(database, "base")
        assert names_of(database) == {"flows_version"}
        schema.upgrade(database)
        assert names_of(database) == before


def test_upgrade_twice_changes_nothing(database: Database) -> None:
    """An upgrade of an upgraded database is no error."""
    schema.upgrade(database)
    assert schema.current(database) == HEAD


def test_prefix_is_honoured(new_database_url: NewUrl) -> None:
    """Two prefixes live side by side, each with its own version."""
    url = new_database_url()
    with opened(url, prefix="one_") as one, opened(url, prefix="two_") as two:
        schema.upgrade(one)
        assert {name[:4] for name in names_of(one)} == {"one_"}
        assert schema.current(two) is None
        schema.upgrade(two)
        schema.downgrade(one, "base")
        assert schema.current(two) == HEAD


def test_schema_is_made_and_honoured(postgres_url: str) -> None:
    """PostgreSQL's schema is made where it is missing, and holds everything, the version too."""
    with opened(postgres_url, schema="Odd Schema") as database:
        schema.upgrade(database)
        assert names_of(database) == {"flows_version", *(table.name for table in our_tables(database))}
        schema.check(database)
        schema.downgrade(database, "base")
        schema.upgrade(database)


def our_tables(database: Database) -> list[sa.Table]:
    """The tables that the store describes."""
    return list(database.tables.metadata.tables.values())


def test_constants_are_those_of_the_steps() -> None:
    """HEAD and REQUIRED, which are known without Alembic, are what the steps say."""
    config = Config()
    config.set_main_option("script_location", "celery_flows.migrations:.")
    scripts = ScriptDirectory.from_config(config)
    steps = list(scripts.walk_revisions())
    assert scripts.get_heads() == [HEAD] == [schema.head()]
    assert next(step.revision for step in steps if str(step.doc).startswith("pre:")) == REQUIRED
    assert all(str(step.doc).startswith(("pre: ", "post: ")) and step.revision.isdigit() for step in steps)


# ---------------------------------------------------------------- two at once

UPGRADE = """
import sys
from celery_flows.store import schema
from celery_flows.store.database import Database
from alembic import command
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
schema.upgrade(database)
print(schema.current(database))
database.close()
"""


@contextmanager
def started_upgrade(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that upgrades when it is told to."""
    command = [sys.executable, "-W", "error", "-c", UPGRADE, url]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_two_processes_upgrade_at_once(new_database_url: NewUrl) -> None:
    """Two upgrades of one database at the same moment both succeed: one of them does the work."""
    url = new_database_url()
    with started_upgrade(url) as one, started_upgrade(url) as other:
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=60) for process in (one, other)]
    assert ends == [(f"{HEAD}\n", "")] * 2


# ---------------------------------------------------------------- what doesn't fit


def test_missing_schema_is_refused(new_database_url: NewUrl) -> None:
    """A database without our tables is refused at its first use, naming the command that makes them."""
    with (
        closing(Database(new_database_url(), on_first_use=schema.check)) as database,
        pytest.raises(SchemaMissing, match="flows upgrade"),
    ):
        database.engine.connect()


def test_missing_database_is_not_a_missing_schema(postgres_url: str) -> None:
    """A database that doesn't exist is a problem of connecting, not of upgrading."""
    url = sa.make_url(postgres_url).set(database="flows_test_none")
    with closing(Database(url)) as database, pytest.raises(sa.exc.OperationalError):
        schema.check(database)


@pytest.mark.parametrize("found", ["0000", "a1b2c3"])
def test_older_schema_is_refused(new_database_url: NewUrl, found: str) -> None:
    """An older revision, or one that isn't ours, is refused, with both revisions and the command."""
    with opened(new_database_url()) as database:
        schema.upgrade(database)
        write_version(database, found)
        with pytest.raises(SchemaOutdated, match="flows upgrade") as caught:
            schema.check(database)
        assert (caught.value.found, caught.value.expected) == (found, REQUIRED)


def test_newer_schema_is_accepted(new_database_url: NewUrl) -> None:
    """Code goes on working after a step was made for the code that comes next, and leaves it in place."""
    with opened(new_database_url()) as database:
        schema.upgrade(database)
        write_version(database, "9000")
        schema.check(database)
        schema.upgrade(database)
        assert schema.current(database) == "9000"
        with pytest.raises(UnknownRevision, match="9000"):
            schema.downgrade(database, "base")


def test_unknown_revision_is_refused(database: Database) -> None:
    """A revision that doesn't exist is named, together with those that do."""
    with pytest.raises(UnknownRevision, match=f"'0815'.*{HEAD}"):
        schema.upgrade(database, "0815")


def test_check_is_one_statement(database: Database) -> None:
    """The check costs the first use of a database one statement."""
    seen: list[str] = []
    sa.event.listen(database.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    schema.check(database)
    assert len(seen) == 1


def test_check_needs_no_alembic() -> None:
    """Workers check the schema without importing Alembic."""
    code = "import sys, celery_flows.store.schema; print('alembic' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


# ---------------------------------------------------------------- offline


@pytest.mark.parametrize("dialect", schema.DIALECTS)
def test_sql_is_written_for_every_dialect(dialect: str) -> None:
    """The SQL of an upgrade is written without a database, with the names that were asked for."""
    written = schema.sql(dialect, prefix="mine_")
    assert "CREATE TABLE mine_jobs" in written
    assert "INSERT INTO mine_version" in written
    assert "flows_" not in written


def test_written_sql_makes_the_same_tables(new_database_url: NewUrl, database_kind: str) -> None:
    """A database made from the written SQL is one that the code accepts, and like a migrated one."""
    with opened(new_database_url()) as by_hand, opened(new_database_url()) as migrated:
        schema.upgrade(migrated)
        with by_hand.reading() as connection:
            for statement in schema.sql(database_kind).split(";"):
                if statement.strip():
                    connection.exec_driver_sql(statement.replace("%", "%%"))
        schema.check(by_hand)
        assert description(by_hand, database_kind) == description(migrated, database_kind)


def test_sql_for_a_schema() -> None:
    """The SQL for a PostgreSQL schema makes it, and puts everything into it."""
    written = schema.sql("postgresql", schema="batches")
    assert "CREATE SCHEMA IF NOT EXISTS batches" in written
    assert "CREATE TABLE batches.flows_version" in written


# ---------------------------------------------------------------- users' own migrations


def test_users_autogenerate_leaves_our_tables_alone(database: Database) -> None:
    """With the filter, a project's own Alembic sees its own tables only; without it, it would drop ours."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE flows_of_water (id INTEGER)")
    try:
        assert dropped(database, None) > {"flows_jobs", "flows_version", "flows_of_water"}
        assert dropped(database, schema.include_name()) == {"flows_of_water"}
    finally:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE flows_of_water")


def dropped(database: Database, include_name: schema.NameFilter | None) -> set[str]:
    """The tables with our prefix that the autogenerate of a project without tables of its own would drop."""
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": include_name})
        steps = compare_metadata(context, sa.MetaData())
    gone = {step[1].name for step in steps if step[0] == "remove_table"}
    return {name for name in gone if name.startswith("flows_")}


@pytest.mark.parametrize(
    ("name", "parents", "is_included"),
    [
        ("flows_jobs", {"schema_name": "batches"}, False),
        ("flows_version", {"schema_name": None}, False),
        ("flows_jobs", {"schema_name": "elsewhere"}, True),
        ("orders", {"schema_name": "batches"}, True),
    ],
)
def test_filter_knows_the_schema(name: str, parents: dict[str, str | None], is_included: bool) -> None:
    """In a schema of our own, and in the connection's default one, which may be ours, our names are left out."""
    assert schema.include_name(schema="batches")(name, "table", parents) is is_included


def test_filter_knows_the_prefix() -> None:
    """Another prefix's tables are the project's own."""
    is_included = schema.include_name(prefix="mine_")
    assert not is_included("mine_jobs", "table", {"schema_name": None})
    assert is_included("flows_jobs", "table", {"schema_name": None})
    assert is_included(None, "schema", {})
