"""pre: the first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from celery_flows.store.revisions import names

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

INNODB: dict[str, Any] = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}

# Compared byte by byte, trailing spaces included.
KEY_COLLATIONS = {"postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}

OUTCOME = "CASE WHEN state IN ('complete', 'failed', 'cancelled', 'skipped') THEN state END"


def upgrade() -> None:
    """Make the tables."""
    make_batches()
    make_jobs()
    make_tallies()
    make_workers()


def make_batches() -> None:
    """A row per batch."""
    make_table(
        "batches",
        sa.Column("id", id_type(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("description", LONG_TEXT),
        sa.Column("context", LONG_TEXT),
        sa.Column("tags", LONG_TEXT),
        sa.Column("tolerate", sa.String(16), nullable=False),
        sa.Column("on_loss", sa.String(8)),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("parent_id", id_type()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("completed_at", MOMENT),
        sa.Column("settled_at", MOMENT),
    )
    make_index("batches", "parent", ["parent_id"])
    make_index("batches", "settled", ["settled_at", "id"])


def make_jobs() -> None:
    """A row per job, callback, child batch and open streaming block."""
    make_table(
        "jobs",
        sa.Column("id", id_type(), nullable=False),
        sa.Column("batch_id", id_type()),
        sa.Column("announces_id", id_type()),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("event", sa.String(16)),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), sa.Computed(OUTCOME, persisted=True)),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("args", LONG_TEXT),
        sa.Column("kwargs", LONG_TEXT),
        sa.Column("options", LONG_TEXT),
        sa.Column("delivery", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("token", sa.String(64)),
        sa.Column("worker_id", id_type()),
        sa.Column("is_late", sa.SmallInteger),
        sa.Column("on_loss", sa.String(8)),
        sa.Column("losses", sa.SmallInteger, nullable=False),
        sa.Column("wrong", sa.SmallInteger, nullable=False),
        sa.Column("error_class", sa.String(255)),
        sa.Column("error_message", LONG_TEXT),
        sa.Column("enrolled_at", MOMENT, nullable=False),
        sa.Column("publishing_since", MOMENT),
        sa.Column("queue", sa.String(255)),
        sa.Column("queued_at", MOMENT),
        sa.Column("expires_at", MOMENT),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
    )
    make_index("jobs", "outcome", ["batch_id", "outcome", "id"])
    make_index("jobs", "announces", ["announces_id"])
    for column in ("publishing_since", "expires_at", "worker_id"):
        make_index("jobs", column, [column], where=f"{column} IS NOT NULL")
    make_index("jobs", "queued", ["ended_at", "queued_at"], where="queued_at IS NOT NULL AND ended_at IS NULL")


def make_tallies() -> None:
    """Counts of batches that tolerate something, spread over slots."""
    make_table(
        "tallies",
        sa.Column("batch_id", id_type(), nullable=False),
        sa.Column("slot", sa.SmallInteger, nullable=False, autoincrement=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("wrong", sa.Integer, nullable=False),
        key=["batch_id", "slot"],
    )


def make_workers() -> None:
    """Who does upkeep."""
    make_table(
        "workers",
        sa.Column("id", id_type(), nullable=False),
        sa.Column("hostname", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("heartbeat_at", MOMENT, nullable=False),
    )


def id_type() -> sa.String:
    """The type of an id."""
    dialect = op.get_context().dialect
    server = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    return sa.String(255, collation=KEY_COLLATIONS.get(server))


def make_table(noun: str, *columns: sa.Column[object], key: list[str] | None = None) -> None:
    """Make a table with a named primary key."""
    table = names().table(noun)
    # To SQLAlchemy a mysql:// and a mariadb:// URL are different databases.
    options: dict[str, Any] = {f"{name}_{one}": INNODB[one] for name in ("mysql", "mariadb") for one in INNODB}
    primary_key = sa.PrimaryKeyConstraint(*(key or ["id"]), name=f"{table}_pkey")
    op.create_table(table, *columns, primary_key, schema=names().schema, **options)


def make_index(noun: str, what: str, columns: list[str], where: str | None = None) -> None:
    """Make an index, over some rows only where the database can do that."""
    name = names().table(noun)
    rows = None if where is None else sa.text(where)
    op.create_index(
        f"{name}_{what}", name, columns, schema=names().schema, postgresql_where=rows, sqlite_where=rows
    )


def downgrade() -> None:
    """Drop the tables, and with them all batches."""
    for noun in ("workers", "tallies", "jobs", "batches"):
        op.drop_table(names().table(noun), schema=names().schema)
