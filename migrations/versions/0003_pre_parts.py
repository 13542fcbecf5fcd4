"""pre: parts of batches, by which large ones are counted; only callbacks in the index of what they announce."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from celery_flows.store.revisions import names

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CALLBACKS = "announces_id IS NOT NULL"

# All rows, but only for questions that say so.
EVERY = "part >= 0"


def upgrade() -> None:
    """Add the column and its index. What is there, and what older code writes, is counted one by one."""
    table, schema = names().table("jobs"), names().schema
    part = sa.Column("part", sa.BigInteger, nullable=False, server_default="0")
    op.add_column(table, part, schema=schema)
    if has_partial_indexes():
        make_index("part", ["batch_id", "part", "outcome"], EVERY)
        op.drop_index(f"{table}_announces", table, schema=schema)
        make_index("announces", ["announces_id"], CALLBACKS)


def has_partial_indexes() -> bool:
    """Whether the database knows indexes of some rows only."""
    return op.get_context().dialect.name not in ("mysql", "mariadb")


def make_index(what: str, columns: list[str], where: str | None = None) -> None:
    """Make an index over some rows."""
    table, rows = names().table("jobs"), None if where is None else sa.text(where)
    over: dict[str, Any] = {"postgresql_where": rows, "sqlite_where": rows}
    op.create_index(f"{table}_{what}", table, columns, schema=names().schema, **over)


def downgrade() -> None:
    """Drop them again."""
    table, schema = names().table("jobs"), names().schema
    if has_partial_indexes():
        op.drop_index(f"{table}_announces", table, schema=schema)
        make_index("announces", ["announces_id"])
        op.drop_index(f"{table}_part", table, schema=schema)
    op.drop_column(table, "part", schema=schema)
