"""A clock in the place of the database's own, for tests that can't wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, event

#: Where a dialect keeps that its statements ask such a clock.
_ASKED: Final = "celery_flows_clock"

#: How a connection is told what the clock shows; SQLite asks for it by a function of that name.
_TELL: Final = {
    "postgresql": "SELECT set_config('celery_flows.now', '{}', false)",
    "mysql": "SET @celery_flows_now = '{}'",
    "mariadb": "SET @celery_flows_now = '{}'",
}

#: What a statement says where it would ask the database's clock.
_SHOWN: Final = {
    "sqlite": "celery_flows_now()",
    "postgresql": "cast(current_setting('celery_flows.now') AS timestamptz)",
    "mysql": "cast(@celery_flows_now AS datetime(6))",
    "mariadb": "cast(@celery_flows_now AS datetime(6))",
}


class Clock:
    """A clock that stands still until it is moved.

    What is judged by the database's clock is then judged by this one: leases, what has expired, how old something
    is. Python's own clock goes on.
    """

    def __init__(self) -> None:
        # A whole second, and not before anything that is there already.
        self._began = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        self._now = self._began

    @property
    def now(self) -> datetime:
        """What it shows, in UTC."""
        return self._now

    @property
    def moved(self) -> timedelta:
        """How far it has been moved."""
        return self._now - self._began

    def advance(self, **by: float) -> datetime:
        """Move it on, and say what it shows then.

        Args:
            by: how far, as a `timedelta` takes it: `seconds=61`, `minutes=2`, `days=30`.

        Raises:
            ValueError: it would be moved back.
        """
        step = timedelta(**by)
        if step < timedelta():
            raise ValueError(f"a clock is advanced, not moved back: {by}")
        self._now += step
        return self._now

    def stand_in(self, engine: Engine) -> None:
        """Let the statements of an engine ask this clock. To be said before it has connections."""
        setattr(engine.dialect, _ASKED, True)
        name = engine.dialect.name

        def give(connection: Any, record: Any) -> None:
            connection.create_function("celery_flows_now", 0, lambda: f"{self._now:%Y-%m-%d %H:%M:%S.%f}")

        def tell(connection: Any, record: Any, proxy: Any) -> None:
            # Each time: it may have been moved, and a transaction that was rolled back has forgotten it.
            shown = self._now if name == "postgresql" else self._now.replace(tzinfo=None)
            cursor = connection.cursor()
            cursor.execute(_TELL[name].format(shown.isoformat(" ")))
            cursor.close()

        event.listen(engine, *(("connect", give) if name == "sqlite" else ("checkout", tell)))


def follow(dialect: Any, other: Any) -> None:
    """Let the statements of another dialect ask such a clock where those of this one do."""
    setattr(other, _ASKED, getattr(dialect, _ASKED, False))


def shown_by(compiler: Any) -> str | None:
    """What a statement asks in place of the database's clock; None: that is asked. Compiled once, as all are."""
    return _SHOWN[compiler.dialect.name] if getattr(compiler.dialect, _ASKED, False) else None
