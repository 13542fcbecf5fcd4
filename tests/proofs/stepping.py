"""Two or three at once, statement by statement: who goes on next is ours to say, who waits is the database's.

Each actor has a thread and a connection of its own, and stops at a gate before each statement that reads,
locks or commits. A plain write inside a transaction goes through with the statement before it: nobody sees it
before the commit. With fine gates each statement has one. From one gate to the next is a step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from locks import DEADLINE, innodb_waiters
from proofs.footprints import Footprint, Footsteps

from celery_flows.store.database import Database
from celery_flows.store.executing import PIPELINE
from celery_flows.store.statements import Answer, Asked, prepare

Act = Callable[[Database], Any]

#: Seconds between two looks whether a thread waits for a lock.
_POLL: Final = 0.0005


class Gated(Database):
    """A database of one actor, who asks at a gate before he says something."""

    gate: Callable[[str], None] | None = None
    is_fine: bool = False
    #: What the server calls the connection.
    server_id: int | None = None
    _is_in_transaction = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Statement by statement, as others come between those of one round trip too.
        options = kwargs.pop("engine_options", {}) | {"execution_options": {PIPELINE: False}}
        super().__init__(*args, **kwargs, engine_options=options)
        self.footsteps = Footsteps()

    def _make_engine(self) -> sa.Engine:
        engine = super()._make_engine()
        sa.event.listen(engine, "checkout", self._note_connection)
        # Before our own BEGIN is said.
        sa.event.listen(engine, "begin", self._begin, insert=True)
        sa.event.listen(engine, "before_cursor_execute", self._before_statement)
        sa.event.listen(engine, "commit", self._before_commit)
        sa.event.listen(engine, "rollback", self._rollback)
        return engine

    def run_in_turn(self, *asked: Asked) -> list[Answer]:
        found = []
        for statement, values in asked:
            prepared = prepare(statement, self.tables, self.engine.dialect)
            said = f"{prepared.sql}; {prepared.then.sql}" if prepared.then else prepared.sql
            self._pass(said)
            self.footsteps.alone(said)
            found += super().run_in_turn((statement, values))
        return found

    def _note_connection(self, connection: Any, record: Any, proxy: Any) -> None:
        if self.dialect == "postgresql":
            self.server_id = connection.info.backend_pid
        elif self.dialect == "mysql":
            self.server_id = connection.thread_id()

    def _begin(self, connection: sa.Connection) -> None:
        self._is_in_transaction = not connection.get_execution_options().get("flows_single")

    def transact(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        if self.dialect == "sqlite":
            # It is the only one from here on, so only its turn is anybody's business.
            self._pass("BEGIN")
        return super().transact(work, *args, **kwargs)

    def _before_statement(self, connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        self._stop_before(statement)
        if self._is_in_transaction:
            self.footsteps.within(statement)
        else:
            self.footsteps.alone(statement)

    def _stop_before(self, statement: str) -> None:
        if statement.startswith("BEGIN") or (self.dialect == "sqlite" and self._is_in_transaction):
            return
        is_write = statement.lstrip().startswith(("UPDATE", "INSERT", "DELETE"))
        if self.is_fine or not (is_write and self._is_in_transaction) or self._is_first(statement):
            self._pass(statement)

    def _is_first(self, statement: str) -> bool:
        # Jobs end, are lost and are cancelled in transactions that begin with a write, or wait in one for a row.
        return "flows_jobs SET state" in statement or "flows_jobs SET wrong" in statement

    def _before_commit(self, connection: Any) -> None:
        if self._is_in_transaction and self.dialect != "sqlite":
            self._pass("COMMIT")
        self._is_in_transaction = False
        self.footsteps.commit()

    def _rollback(self, connection: Any) -> None:
        self._is_in_transaction = False
        self.footsteps.roll_back()

    def _pass(self, statement: str) -> None:
        if self.gate is not None:
            self.gate(statement)


class Actor:
    """Somebody who does one thing, in a thread, from gate to gate."""

    def __init__(self, database: Gated, act: Act) -> None:
        self._database, self._act = database, act
        self._changed = threading.Condition()
        self._is_at_gate = self._may_pass = False
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.said: list[str] = []
        #: What the last step came by so far.
        self.footprint = Footprint()
        database.gate = self._wait
        database.server_id = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._act(self._database)
        except BaseException as error:
            self.error = error
        with self._changed:
            self.is_done = True
            self._changed.notify_all()

    def _wait(self, statement: str) -> None:
        with self._changed:
            self._is_at_gate = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._may_pass, DEADLINE):
                raise TimeoutError(f"nobody opened the gate before {statement}")
            self._is_at_gate = self._may_pass = False
            self.said.append(statement)
            self.footprint = self._database.footsteps.begin()

    @property
    def has_stopped(self) -> bool:
        """Whether it stands at a gate, or has come to its end."""
        return self.is_done or (self._is_at_gate and not self._may_pass)

    def go(self) -> None:
        """Open the gate for one step."""
        with self._changed:
            self._may_pass = True
            self._changed.notify_all()

    def stops_or_waits(self, waits: Callable[[int | None], bool]) -> bool:
        """Wait until it stands at its next gate, or for a lock; say whether it stands."""
        deadline = time.monotonic() + DEADLINE
        while True:
            with self._changed:
                # Most steps take less than a millisecond: no need to ask the database.
                if self._changed.wait_for(lambda: self.has_stopped, 0.003):
                    return True
            if waits(self._database.server_id):
                # It may have got it between the two looks.
                with self._changed:
                    return self.has_stopped
            assert time.monotonic() < deadline, f"neither stops nor waits: {self.said[-1:]}"
            time.sleep(_POLL)

    def ends(self) -> None:
        """Open all gates, and wait for the end."""
        self._database.gate = None
        self.go()
        self._thread.join(DEADLINE)


class Lookout:
    """Asks the database who waits for a lock, on a connection of its own."""

    def __init__(self, database: Database) -> None:
        self._dialect = database.dialect
        engine = sa.create_engine(database.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._connection = None if self._dialect == "sqlite" else engine.connect()

    def waits(self, server_id: int | None) -> bool:
        """Whether a connection waits for a lock that another holds."""
        if self._connection is None or server_id is None:
            return False
        if self._dialect == "postgresql":
            # What the lock manager knows, which is never behind.
            return bool(self._connection.exec_driver_sql(f"SELECT pg_blocking_pids({server_id})").scalar())
        return server_id in innodb_waiters(self._connection)

    def close(self) -> None:
        """Look out no more."""
        if self._connection is not None:
            self._connection.close()


@dataclass
class Step:
    """Who went on from one gate to the next, and what came of it."""

    who: int
    #: Who could have gone on.
    ready: tuple[int, ...]
    said: str
    footprint: Footprint
    #: Whether it stood at its next gate, or at its end, when the next step was made; else it waits for a lock.
    is_over: bool


#: Says which of those who can go on goes on: by the steps that were made, and who can.
Schedule = Callable[[Sequence[Step], Sequence[int]], int]


@dataclass
class Course:
    """How it went: what each did, step by step."""

    results: list[Any]
    errors: list[BaseException | None]
    steps: list[Step]

    def __str__(self) -> str:
        return "\n".join(f"{'ABC'[one.who]}: {' '.join(one.said.split())[:150]}" for one in self.steps)


class Stage:
    """Where actors act at once on one database."""

    def __init__(self, database: Database, actors: int = 2, *, is_fine: bool = False) -> None:
        options: dict[str, Any] = {}
        if database.dialect == "postgresql":
            # A deadlock is looked for soon.
            options = {"connect_args": {"options": "-c deadlock_timeout=20ms"}}
        self._databases = [Gated(database.url, engine_options=options) for _ in range(actors)]
        for one in self._databases:
            one.is_fine = is_fine
        self._lookout = Lookout(database)

    def plays(self, acts: Sequence[Act], schedule: Schedule) -> Course:
        """Let each do its thing, a step at a time."""
        actors = [Actor(database, act) for database, act in zip(self._databases, acts, strict=False)]
        steps: list[Step] = []
        try:
            while (ready := self._ready(actors)) is not None:
                who = schedule(steps, ready)
                actors[who].go()
                is_over = actors[who].stops_or_waits(self._lookout.waits)
                steps.append(Step(who, ready, actors[who].said[-1], actors[who].footprint, is_over))
        finally:
            for actor in actors:
                actor.ends()
        return Course([one.result for one in actors], [one.error for one in actors], steps)

    def _ready(self, actors: Sequence[Actor]) -> tuple[int, ...] | None:
        """Who stands at a gate; None: all have come to their end."""
        deadline = time.monotonic() + DEADLINE
        while True:
            # Who waited for a lock may have got it by the last step.
            stand = [actor.stops_or_waits(self._lookout.waits) for actor in actors]
            found = tuple(who for who, actor in enumerate(actors) if stand[who] and not actor.is_done)
            if found:
                return found
            if all(actor.is_done for actor in actors):
                return None
            # Each waits for another: the database will choose a victim.
            assert time.monotonic() < deadline, "a deadlock that the database does not see"

    def close(self) -> None:
        """Close all connections."""
        self._lookout.close()
        for one in self._databases:
            one.gate = None
            one.close()
