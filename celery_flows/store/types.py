"""Column types and the database's clock, the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import DateTime, Dialect, String, Text
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from celery_flows.codec import Codec, seal, unseal
from celery_flows.store.clock import shown_by


class Key(TypeDecorator[str]):
    """An id or key, compared byte by byte: case and trailing spaces differ."""

    impl = String(255)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        # utf8mb4_bin ignores trailing spaces, and MySQL and MariaDB have no collation in common that does not.
        is_mariadb = getattr(dialect, "is_mariadb", False)
        collation = _EXACT.get("mariadb" if is_mariadb else dialect.name)
        return dialect.type_descriptor(String(255, collation=collation))


_EXACT: Final = {"postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}

#: Ids and keys.
KEY = Key()

#: Text without a limit that matters: MySQL's TEXT ends at 64 KiB.
LONG_TEXT = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


class SealedText(TypeDecorator[str]):
    """Long text with users' data: arguments, options, context, errors. A codec may encrypt it."""

    impl = Text
    cache_ok = True

    def __init__(self, codec: Codec | None = None) -> None:
        super().__init__()
        self.codec = codec

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        # Not through type_descriptor elsewhere: psycopg's would describe the column as VARCHAR.
        is_mysql = dialect.name in ("mysql", "mariadb")
        return dialect.type_descriptor(mysql.LONGTEXT()) if is_mysql else self.impl_instance

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return seal(self.codec, value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return unseal(self.codec, value)


class _FileDateTime(sqlite.DATETIME):
    """SQLite's, also where the driver has been told to make moments of such columns itself, as Django does."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        read: Any = super().result_processor(dialect, coltype)
        return lambda value: value if isinstance(value, datetime) else read(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC on the Python side, to the microsecond in the database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_FileDateTime())  # type: ignore[no-untyped-call] # SQLAlchemy's
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class utcnow(FunctionElement[datetime]):  # noqa: N801  # an SQL function, written as one
    """Now, by the database's clock: workers' clocks differ, the database's is one."""

    type = UtcDateTime()
    inherit_cache = True


class seconds_ago(FunctionElement[datetime]):  # noqa: N801  # an SQL function, written as one
    """The moment a number of seconds before now, by the database's clock."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(utcnow)
def _sqlite_now(element: utcnow, compiler: Any, **kw: Any) -> str:
    return shown_by(compiler) or "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


@compiles(utcnow, "postgresql")
def _postgresql_now(element: utcnow, compiler: Any, **kw: Any) -> str:
    # Not now(), which stands still at the start of the transaction.
    return shown_by(compiler) or "clock_timestamp()"


@compiles(utcnow, "mysql")
@compiles(utcnow, "mariadb")
def _mysql_now(element: utcnow, compiler: Any, **kw: Any) -> str:
    return shown_by(compiler) or "(utc_timestamp(6))"


@compiles(seconds_ago)
def _sqlite_ago(element: seconds_ago, compiler: Any, **kw: Any) -> str:
    seconds, now = compiler.process(element.clauses, **kw), shown_by(compiler) or "'now'"
    return f"strftime('%Y-%m-%d %H:%M:%f000', {now}, (-({seconds})) || ' seconds')"


@compiles(seconds_ago, "postgresql")
def _postgresql_ago(element: seconds_ago, compiler: Any, **kw: Any) -> str:
    now = shown_by(compiler) or "clock_timestamp()"
    return f"{now} - make_interval(secs => {compiler.process(element.clauses, **kw)})"


@compiles(seconds_ago, "mysql")
@compiles(seconds_ago, "mariadb")
def _mysql_ago(element: seconds_ago, compiler: Any, **kw: Any) -> str:
    seconds, now = compiler.process(element.clauses, **kw), shown_by(compiler) or "utc_timestamp(6)"
    return f"date_sub({now}, interval cast(({seconds}) * 1000000 as signed) microsecond)"
