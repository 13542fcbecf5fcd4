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


def upgrade() -> None:
    """Add the column and its index. Older code leaves it NULL, and such rows are counted one by one."""
    table, schema = names().table("jobs"), names().schema
    op.add_column(table, sa.Column("part", sa.BigInteger), schema=schema)
    op.create_index(f"{table}_part", table, ["batch_id", "part", "outcome"], schema=schema)
    announce(CALLBACKS)


def announce(where: str | None) -> None:
    """Make the index over announced batches anew, over some rows only where the database can do that."""
    table, schema = names().table("jobs"), names().schema
    if op.get_context().dialect.name in ("mysql", "mariadb"):
        return
    rows = None if where is None else sa.text(where)
    over: dict[str, Any] = {"postgresql_where": rows, "sqlite_where": rows}
    op.drop_index(f"{table}_announces", table, schema=schema)
    op.create_index(f"{table}_announces", table, ["announces_id"], schema=schema, **over)


def downgrade() -> None:
    """Drop them again."""
    table, schema = names().table("jobs"), names().schema
    announce(None)
    op.drop_index(f"{table}_part", table, schema=schema)
    op.drop_column(table, "part", schema=schema)
