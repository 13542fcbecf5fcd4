"""pre: jobs that wait for one another, their results and data, and batches by key."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from celery_flows.store.revisions import names

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

INNODB: dict[str, Any] = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}

# Compared byte by byte, trailing spaces included.
KEY_COLLATIONS = {"postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}


def upgrade() -> None:
    """Add what flows need. All new columns may be NULL: older code goes on writing rows without them."""
    for noun, column in new_columns():
        op.add_column(names().table(noun), column, schema=names().schema)
    make_index("batches", "open_key", ["open_key"], unique=True)
    make_index("jobs", "name", ["batch_id", "name"], where="name IS NOT NULL")
    make_index("jobs", "releasing_since", ["releasing_since"], where="releasing_since IS NOT NULL")
    make_edges()
    make_memory()


def new_columns() -> list[tuple[str, sa.Column[Any]]]:
    """What existing tables get, with their nouns."""
    return [
        ("batches", sa.Column("flow", sa.String(255))),
        ("batches", sa.Column("plan", LONG_TEXT)),
        ("batches", sa.Column("memory_id", key_type())),
        ("batches", sa.Column("batch_key", key_type())),
        ("batches", sa.Column("open_key", key_type())),
        ("jobs", sa.Column("name", key_type())),
        ("jobs", sa.Column("takes", sa.String(8))),
        ("jobs", sa.Column("keeps", sa.SmallInteger)),
        ("jobs", sa.Column("blocks", sa.SmallInteger)),
        ("jobs", sa.Column("releasing_since", MOMENT)),
        ("jobs", sa.Column("result", LONG_TEXT)),
    ]


def make_edges() -> None:
    """A row per pair of jobs of which one waits for the other."""
    make_table(
        "edges",
        sa.Column("job_id", key_type(), nullable=False),
        sa.Column("dependent_id", key_type(), nullable=False),
        sa.Column("condition", sa.String(16), nullable=False),
        sa.Column("position", sa.Integer),
        sa.Column("is_open", sa.SmallInteger, nullable=False),
        key=["job_id", "dependent_id"],
    )
    make_index("edges", "dependent", ["dependent_id", "is_open", "job_id"])


def make_memory() -> None:
    """A row per key of a run's data."""
    make_table(
        "memory",
        sa.Column("run_id", key_type(), nullable=False),
        sa.Column("name", key_type(), nullable=False),
        sa.Column("value", LONG_TEXT),
        sa.Column("version", sa.Integer, nullable=False),
        key=["run_id", "name"],
    )


def key_type() -> sa.String:
    """The type of an id or key."""
    dialect = op.get_context().dialect
    server = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    return sa.String(255, collation=KEY_COLLATIONS.get(server))


def make_table(noun: str, *columns: sa.Column[Any], key: list[str]) -> None:
    """Make a table with a named primary key."""
    table = names().table(noun)
    # To SQLAlchemy a mysql:// and a mariadb:// URL are different databases.
    options: dict[str, Any] = {f"{name}_{one}": INNODB[one] for name in ("mysql", "mariadb") for one in INNODB}
    primary_key = sa.PrimaryKeyConstraint(*key, name=f"{table}_pkey")
    op.create_table(table, *columns, primary_key, schema=names().schema, **options)


def make_index(noun: str, what: str, columns: list[str], where: str | None = None, unique: bool = False) -> None:
    """Make an index, over some rows only where the database can do that."""
    name = names().table(noun)
    rows = None if where is None else sa.text(where)
    over: dict[str, Any] = {"postgresql_where": rows, "sqlite_where": rows}
    op.create_index(f"{name}_{what}", name, columns, unique=unique, schema=names().schema, **over)


def downgrade() -> None:
    """Drop it again: flows that are under way lose their order."""
    schema = names().schema
    for noun in ("memory", "edges"):
        op.drop_table(names().table(noun), schema=schema)
    for noun, what in (("jobs", "releasing_since"), ("jobs", "name"), ("batches", "open_key")):
        table = names().table(noun)
        op.drop_index(f"{table}_{what}", table, schema=schema)
    for noun, column in reversed(new_columns()):
        op.drop_column(names().table(noun), column.name, schema=schema)
