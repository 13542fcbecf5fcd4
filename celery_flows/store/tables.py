"""The tables, under the prefix and in the schema that the settings name.

Alembic owns the schema (`migrations/`); a test holds these descriptions against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Computed, Index, Integer, MetaData, SmallInteger, String, Table, text

from celery_flows.codec import Codec
from celery_flows.states import TERMINAL
from celery_flows.store.types import KEY, LONG_TEXT, SealedText, UtcDateTime

_ENDS = ", ".join(f"'{state}'" for state in TERMINAL)

#: A job's state once it has ended, NULL before: what the probe, the lists and the counts look up.
#: Claiming and publishing leave it alone, so that they touch no index on PostgreSQL.
OUTCOME = f"CASE WHEN state IN ({_ENDS}) THEN state END"

#: The databases that have indexes of some rows only.
PARTIAL: Final = ("postgresql", "sqlite")

_INNODB = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin"}

# To SQLAlchemy a mysql:// and a mariadb:// URL are different databases, whichever server is behind them.
_OPTIONS: dict[str, Any] = {f"{name}_{key}": _INNODB[key] for name in ("mysql", "mariadb") for key in _INNODB}


@dataclass(frozen=True)
class Tables:
    """The tables of one prefix and schema."""

    metadata: MetaData
    batches: Table
    jobs: Table
    edges: Table
    memory: Table
    tallies: Table
    workers: Table
    #: What encrypts users' data, for statements that go around the column types.
    codec: Codec | None = None

    @property
    def version(self) -> str:
        """Name of the table in which Alembic keeps our revision."""
        return f"{self.metadata.info['prefix']}version"


@lru_cache
def tables(prefix: str = "flows_", schema: str | None = None, codec: Codec | None = None) -> Tables:
    """Describe the tables of a prefix and schema."""
    metadata = MetaData(schema=schema, info={"prefix": prefix})
    sealed = SealedText(codec)
    return Tables(
        metadata,
        _batches(metadata, sealed),
        _jobs(metadata, sealed),
        _edges(metadata),
        _memory(metadata, sealed),
        _tallies(metadata),
        _workers(metadata),
        codec,
    )


def _name(metadata: MetaData, noun: str) -> str:
    return f"{metadata.info['prefix']}{noun}"


def _batches(metadata: MetaData, sealed: SealedText) -> Table:
    name = _name(metadata, "batches")
    return Table(
        name,
        metadata,
        Column("id", KEY, primary_key=True),
        Column("kind", String(32), nullable=False),
        Column("state", String(16), nullable=False),
        Column("description", LONG_TEXT),
        Column("context", sealed),
        Column("tags", LONG_TEXT),
        Column("tolerate", String(16), nullable=False),
        # What becomes of its lost jobs, "fail" or "retry"; NULL: as the settings say.
        Column("on_loss", String(8)),
        Column("round", Integer, nullable=False),
        Column("parent_id", KEY),
        Column("created_at", UtcDateTime, nullable=False),
        Column("started_at", UtcDateTime),
        Column("completed_at", UtcDateTime),
        Column("settled_at", UtcDateTime),
        # Of a flow: its class, by module and name, and what was planned.
        Column("flow", String(255)),
        Column("plan", sealed),
        # The run whose memory it uses: its own id, or that of a batch above.
        Column("memory_id", KEY),
        # What a user calls it, and the same while it is unfinished.
        Column("batch_key", KEY),
        Column("open_key", KEY),
        Index(f"{name}_parent", "parent_id"),
        Index(f"{name}_settled", "settled_at", "id"),
        Index(f"{name}_open_key", "open_key", unique=True),
        **_OPTIONS,
    )


def _jobs(metadata: MetaData, sealed: SealedText) -> Table:
    name = _name(metadata, "jobs")
    jobs = Table(
        name,
        metadata,
        *_identity(),
        *_call(sealed),
        *_claim(),
        *_end(sealed),
        *_turn(sealed),
        Index(f"{name}_outcome", "batch_id", "outcome", "id"),
        **_OPTIONS,
    )
    for column in (jobs.c.publishing_since, jobs.c.releasing_since, jobs.c.expires_at, jobs.c.worker_id):
        is_set = column.is_not(None)
        Index(f"{name}_{column.name}", column, postgresql_where=is_set, sqlite_where=is_set)
    # All rows, but only for who says so: before there are statistics, the probe would be tempted by it. MySQL and
    # MariaDB have no such indexes, and do without.
    every = text("part >= 0")
    by_part = (jobs.c.batch_id, jobs.c.part, jobs.c.outcome)
    Index(f"{name}_part", *by_part, postgresql_where=every, sqlite_where=every).ddl_if(callable_=_is_partial)
    announces = jobs.c.announces_id.is_not(None)
    Index(f"{name}_announces", jobs.c.announces_id, postgresql_where=announces, sqlite_where=announces)
    is_named = jobs.c.name.is_not(None)
    Index(f"{name}_name", jobs.c.batch_id, jobs.c.name, postgresql_where=is_named, sqlite_where=is_named)
    queued = jobs.c.queued_at.is_not(None) & jobs.c.ended_at.is_(None)
    Index(f"{name}_queued", jobs.c.ended_at, jobs.c.queued_at, postgresql_where=queued, sqlite_where=queued)
    return jobs


def _is_partial(ddl: Any, target: Any, bind: Any, *_: Any, dialect: Any, **__: Any) -> bool:
    return dialect.name in PARTIAL


def _identity() -> list[Column[Any]]:
    return [
        # Celery's task id; for a child batch in its parent, the child's id.
        Column("id", KEY, primary_key=True),
        # The batch that it belongs to, or, for a callback, none.
        Column("batch_id", KEY),
        # For a callback: the batch that it announces.
        Column("announces_id", KEY),
        Column("kind", String(16), nullable=False),
        Column("event", String(16)),
        Column("round", Integer, nullable=False),
        Column("state", String(16), nullable=False),
        Column("outcome", String(16), Computed(OUTCOME, persisted=True)),
        # With which others it was enrolled, and how many these are; 0: it is counted by itself.
        Column("part", BigInteger, nullable=False, server_default="0"),
    ]


def _call(sealed: SealedText) -> list[Column[Any]]:
    return [
        Column("task", String(255), nullable=False),
        Column("args", sealed),
        Column("kwargs", sealed),
        Column("options", sealed),
    ]


def _claim() -> list[Column[Any]]:
    return [
        # Number of the latest publish: a message that carries an older one can't claim.
        Column("delivery", Integer, nullable=False),
        # How often it was claimed.
        Column("attempt", Integer, nullable=False),
        # Which delivery holds the claim.
        Column("token", String(64)),
        # Under which worker process's lease it runs.
        Column("worker_id", KEY),
        # Whether its message is acknowledged only after it ran, and what its task says of losses.
        Column("is_late", SmallInteger),
        Column("on_loss", String(8)),
        # How often its worker died.
        Column("losses", SmallInteger, nullable=False),
    ]


def _end(sealed: SealedText) -> list[Column[Any]]:
    return [
        # Whether it has been counted against the tolerance.
        Column("wrong", SmallInteger, nullable=False),
        Column("error_class", String(255)),
        Column("error_message", sealed),
        Column("enrolled_at", UtcDateTime, nullable=False),
        # Since when somebody has meant to publish it; NULL where there is nothing to publish.
        Column("publishing_since", UtcDateTime),
        # Where its message waits, and since when; for one with a countdown, from when on.
        Column("queue", String(255)),
        Column("queued_at", UtcDateTime),
        # When its message is no longer to be run; the broker may drop it without a word.
        Column("expires_at", UtcDateTime),
        Column("started_at", UtcDateTime),
        Column("ended_at", UtcDateTime),
    ]


def _turn(sealed: SealedText) -> list[Column[Any]]:
    """What makes a job one of a flow's, where others wait for it or it for others."""
    return [
        # What the plan calls it.
        Column("name", KEY),
        # Whether results come before its arguments: "one", or "list" of all.
        Column("takes", String(8)),
        # Whether somebody needs its result.
        Column("keeps", SmallInteger),
        # Whether others wait for it.
        Column("blocks", SmallInteger),
        # Since when somebody has meant to see what waited for it; NULL where there is nothing to see.
        Column("releasing_since", UtcDateTime),
        Column("result", sealed),
    ]


def _edges(metadata: MetaData) -> Table:
    """Which job waits for which, and for what end of it. Both are of one batch."""
    name = _name(metadata, "edges")
    return Table(
        name,
        metadata,
        Column("job_id", KEY, primary_key=True),
        Column("dependent_id", KEY, primary_key=True),
        # The end that is waited for: "complete", "failure" or "settled".
        Column("condition", String(16), nullable=False),
        # Where the result stands among those that the dependent takes; NULL: it takes none.
        Column("position", Integer),
        # Whether the job has not ended, or nobody has looked since.
        Column("is_open", SmallInteger, nullable=False),
        Index(f"{name}_dependent", "dependent_id", "is_open", "job_id"),
        **_OPTIONS,
    )


def _memory(metadata: MetaData, sealed: SealedText) -> Table:
    """The data that the jobs of a run share, a row per key."""
    return Table(
        _name(metadata, "memory"),
        metadata,
        Column("run_id", KEY, primary_key=True),
        Column("name", KEY, primary_key=True),
        Column("value", sealed),
        # How often it was written.
        Column("version", Integer, nullable=False),
        **_OPTIONS,
    )


def _tallies(metadata: MetaData) -> Table:
    """Counts of batches that tolerate something, spread over slots so that no row is hot."""
    return Table(
        _name(metadata, "tallies"),
        metadata,
        Column("batch_id", KEY, primary_key=True),
        Column("slot", SmallInteger, primary_key=True, autoincrement=False),
        Column("total", Integer, nullable=False),
        Column("wrong", Integer, nullable=False),
        **_OPTIONS,
    )


def _workers(metadata: MetaData) -> Table:
    """A lease per worker process; the row with the id "sweep" says whose turn the last sweep was."""
    return Table(
        _name(metadata, "workers"),
        metadata,
        Column("id", KEY, primary_key=True),
        Column("hostname", String(255), nullable=False),
        Column("pid", Integer, nullable=False),
        Column("started_at", UtcDateTime, nullable=False),
        Column("heartbeat_at", UtcDateTime, nullable=False),
        **_OPTIONS,
    )
