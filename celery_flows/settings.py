"""Every setting: its name, type, unit, default, and what it does."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from celery_flows.errors import InvalidSetting, UnknownSetting

#: Settings stand in `app.conf` under this prefix.
PREFIX = "flows_"

#: The environment variable that goes before every other source of `database_url`.
DATABASE_URL_VARIABLE = "CELERY_FLOWS_DATABASE_URL"


#: What an object must have that keeps the memories of runs.
MEMORY_METHODS = ("write", "read", "clear")


def has_methods(value: object, names: Iterable[str]) -> bool:
    """Whether an object, which is no class, has these methods."""
    return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)


def _setting(default: Any, allowed: str, **limits: Any) -> Any:
    return field(default_factory=lambda: default, metadata={"allowed": allowed, **limits})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of celery-flows. In `app.conf` each has the prefix `flows_`."""

    #: SQLAlchemy URL of the database that holds the batches. The environment variable
    #: CELERY_FLOWS_DATABASE_URL goes first.
    database_url: str | None = _setting(None, 'a SQLAlchemy URL such as "postgresql+psycopg://localhost/shop"')
    #: Keyword arguments for `sqlalchemy.create_engine`, such as pool_size.
    engine_options: Mapping[str, Any] = _setting({}, "a mapping of keyword arguments for create_engine")
    #: What the names of our tables begin with.
    table_prefix: str = _setting("flows_", "text of letters, digits and underscores, at most 20 long")
    #: Schema that holds our tables (PostgreSQL); None: the connection's own search path.
    schema: str | None = _setting(None, "the name of a schema, or None")
    #: Queue for callbacks that name none; None: the callback task's own route.
    callback_queue: str | None = _setting(None, "the name of a queue, or None")
    #: Jobs per chunk, in which a block is kept in memory, written and published.
    chunk_size: int = _setting(1000, "a whole number from 1 to 10,000", least=1, most=10_000)
    #: Seconds for which what a process has taken on belongs to it; after that the sweep may repair it.
    lease_timeout: float = _setting(60.0, "a number of seconds above 0", above=0)
    #: Seconds between two heartbeats of a worker process; a lease must last at least three.
    heartbeat_interval: float = _setting(10.0, "a number of seconds above 0", above=0)
    #: What becomes of a job whose worker died after its message was acknowledged: "fail", or "retry" for jobs
    #: that bear to run twice. A task (on_loss="retry") and a batch may say otherwise.
    on_loss: str = _setting("fail", '"fail" or "retry"', words=("fail", "retry"))
    #: After so many losses a job fails, however it was delivered.
    max_losses: int = _setting(3, "a whole number from 1 to 100", least=1, most=100)
    #: Seconds after which a job that waits in a queue that the broker calls empty is published again; each
    #: further time it takes twice as long.
    requeue_after: float = _setting(600.0, "a number of seconds above 0", above=0)
    #: Bytes that the result of a job may have, as JSON, where other jobs are given it.
    result_max_bytes: int = _setting(65_536, "a whole number from 1 to 2**30", least=1, most=2**30)
    #: What keeps the memories of runs, but for those of sequences: an object with write(run_id, mapping),
    #: read(run_id, keys) and clear(run_id), such as celery_flows.memory.RedisMemory, or its dotted name; None: the
    #: database, which alone commits them with the outcomes of jobs.
    memory: object = _setting(
        None, "an object with the methods write, read and clear, its dotted name, or None", methods=MEMORY_METHODS
    )
    #: How keys of a run's memory are merged that several jobs write, by key or pattern: "sum", "append", "union",
    #: a function (kept, given) -> value, or its dotted name. Of other keys the later value stays.
    merges: Mapping[str, Any] = _setting({}, 'a mapping of keys to "sum", "append", "union" or a function')
    #: Bytes that one value in a run's memory may have, as JSON.
    memory_value_max_bytes: int = _setting(1_048_576, "a whole number from 1 to 2**30", least=1, most=2**30)
    #: Bytes that a run may remember, all keys together, as they are stored. With more than a thousand keys that is
    #: seen at one write in a hundred, and at those that write much.
    memory_max_bytes: int = _setting(16_777_216, "a whole number from 1 to 2**40", least=1, most=2**40)
    #: Seconds between two passes of the sweep, over all workers together.
    sweep_interval: float = _setting(15.0, "a number of seconds above 0", above=0)

    #: Seconds after which the sweep prunes a finished batch, at most a hundred per pass; None: it prunes none.
    retention: float | None = _setting(None, "a number of seconds above 0, or None", above=0)

    #: What encrypts arguments, options, context and errors in the database: an object with encode(text) and
    #: decode(text), or its dotted name. What was stored before stays readable.
    codec: object = _setting(None, "an object with encode(text) and decode(text), its dotted name, or None")
    #: In a Django project, where no database_url is given: which of its DATABASES holds the batches, by alias.
    django_database: str = _setting("default", "an alias in Django's DATABASES")
    #: What hides arguments and errors where jobs are shown: a function (task, args, kwargs) -> (args, kwargs), or
    #: an object with such a method `arguments`, a method `error` (task, message) -> message, or both; or a dotted
    #: name.
    redact: object = _setting(
        None,
        "a function (task, args, kwargs) -> (args, kwargs), an object with the methods arguments and error, "
        "a dotted name, or None",
    )

    @classmethod
    def build(cls, values: Mapping[str, Any], keys: Mapping[str, str] | None = None) -> Settings:
        """Check values and make settings of them.

        Args:
            values: by name, without prefix.
            keys: what the user wrote for each name, where that is not the name itself.

        Raises:
            UnknownSetting: there is no such setting.
            InvalidSetting: a value has the wrong type or is out of range, or two don't go together.
        """
        check(values, keys)
        settings = cls(**values)
        if settings.lease_timeout < 2.999 * settings.heartbeat_interval:
            raise InvalidSetting(
                name=(keys or {}).get("lease_timeout", "lease_timeout"),
                value=settings.lease_timeout,
                allowed=f"at least three times heartbeat_interval, which is {settings.heartbeat_interval:g} s",
            )
        return settings


def check(values: Mapping[str, Any], keys: Mapping[str, str] | None = None) -> None:
    """Check each value by itself, where others may be given elsewhere.

    Raises:
        UnknownSetting: there is no such setting.
        InvalidSetting: a value has the wrong type or is out of range.
    """
    keys = keys or {}
    for name in values:
        check_name(name, keys.get(name, name))
    for one in fields(Settings):
        if one.name in values:
            _check_value(keys.get(one.name, one.name), values[one.name], one)


def names() -> list[str]:
    """The names of all settings, without prefix."""
    return [one.name for one in fields(Settings)]


def check_name(name: str, key: str) -> None:
    """Refuse a name that no setting has.

    Args:
        name: without prefix.
        key: as the user wrote it, which is also how the answer is written.

    Raises:
        UnknownSetting: it says the nearest name, and all names.
    """
    if name in names():
        return
    prefix = key[: len(key) - len(name)]
    known = [prefix + (one.upper() if key.isupper() else one) for one in names()]
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise UnknownSetting(name=key, nearest=nearest[0], known=", ".join(known))


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "Mapping[str, Any]": (Mapping,),
    "object": (object,),
}


def _check_value(key: str, value: Any, one: Field[Any]) -> None:
    rule = dict(one.metadata)
    is_right = isinstance(value, _TYPES[str(one.type)]) and not isinstance(value, bool)
    if is_right and one.name == "table_prefix":
        is_right = len(value) <= 20 and (value + "x").isidentifier() and value.isascii()
    if is_right and not isinstance(value, (str, type(None))):
        is_right = not (("least" in rule and value < rule["least"]) or ("most" in rule and value > rule["most"]))
        is_right = is_right and ("above" not in rule or rule["above"] < value < math.inf)
    if is_right and "methods" in rule and not isinstance(value, (str, type(None))):
        is_right = has_methods(value, rule["methods"])
    if is_right and "words" in rule:
        is_right = value in rule["words"]
    if not is_right:
        raise InvalidSetting(name=key, value=value, allowed=rule["allowed"])
