"""The memory of a run, wherever it is kept: in the run's own database, or in what the settings name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cached_property
from random import randrange
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from celery_flows.codec import LONGEST_KEY, encode, is_key, seal, unseal
from celery_flows.errors import FlowsError, MemoryTooLarge, MemoryUnavailable, NotStorable
from celery_flows.merging import MARK
from celery_flows.messaging.runtime import Runtime
from celery_flows.store import memory
from celery_flows.store.database import Connection
from celery_flows.store.memory import Run
from celery_flows.store.tables import Tables
from celery_flows.transitions.create import NewBatch

T = TypeVar("T")

#: A run with so many keys is measured at each write; one with more at one write in so many, and where it is long.
_FEW: Final = 1000
_ONE_IN: Final = 100

#: The kind of flow whose memory is in the database whatever the settings say.
_ALWAYS_SQL: Final = "sequence"


@runtime_checkable
class Backend(Protocol):
    """Keeps the memory of runs elsewhere than in their database; texts under keys, for each run's id.

    Each run begins with one `write`, which may be of nothing, so that a memory that is gone can be told from one
    that is empty. Methods raise what they like; jobs fail by it. Two more are made use of where there are any:
    `extend_ttl(run_id, seconds)`, and `count(run_id)`, the number of keys.
    """

    def write(self, run_id: str, mapping: Mapping[str, str | None]) -> None:
        """Keep these, and go on keeping the others; None: forget the key."""

    def read(self, run_id: str, keys: Collection[str] | None) -> Mapping[str, str]:
        """What is kept under those of these keys that are known; None: everything."""

    def clear(self, run_id: str) -> None:
        """Forget everything."""

    def __hash__(self) -> int: ...


class RunMemory:
    """What the run of one batch remembers, as texts."""

    def __init__(self, runtime: Runtime, batch_id: str, run: Run | None = None) -> None:
        self._runtime = runtime
        self._batch_id = batch_id
        if run is not None:
            self.run = run

    @cached_property
    def run(self) -> Run:
        """The run: that of the batch, or of one above it."""
        with self._runtime.database.reading() as connection:
            return self._find(connection)

    def _find(self, connection: Connection) -> Run:
        tables = self._runtime.database.tables
        if self._runtime.memory is None:
            # The kind matters only where there is another memory.
            return Run(memory.run_of(connection, tables, self._batch_id), "")
        return memory.find_run(connection, tables, self._batch_id)

    @property
    def backend(self) -> Backend | None:
        """What keeps it; None: its database."""
        return None if self._runtime.memory is None or self.run.kind == _ALWAYS_SQL else self._runtime.memory

    def read(self, keys: Collection[str] | None = None) -> dict[str, str]:
        """What is under these keys, or under all, with shares merged.

        Raises:
            MergeFailed: a merge can't take what it was given.
            MemoryExpired: it is no longer there.
            MemoryUnavailable: what keeps it can't be reached.
        """
        return self._runtime.merges.fold(self._rows(keys))

    def _rows(self, keys: Collection[str] | None) -> Mapping[str, str]:
        backend, database = self.backend, self._runtime.database
        if backend is None:
            with database.reading() as connection:
                return memory.read(connection, database.tables, self.run.id, keys)
        merges = self._runtime.merges
        if keys is not None and any(merges.of(key) for key in keys):
            wanted = set(keys)
            everything = self._ask("read", lambda: backend.read(self.run.id, None))
            found = {name: text for name, text in everything.items() if name.partition(MARK)[0] in wanted}
        else:
            found = dict(self._ask("read", lambda: backend.read(self.run.id, keys)))
        codec = database.tables.codec
        return {name: unseal(codec, text) or "" for name, text in found.items()}

    def write_now(self, values: Mapping[str, str | None]) -> None:
        """Write from outside of any job.

        Raises:
            MemoryTooLarge: the run would remember too much.
            MemoryUnavailable: what keeps it can't be reached.
        """
        if self.backend is None:
            self._runtime.database.transact(self.write_within, self._runtime.database.tables, values)
        else:
            self.write_elsewhere(values)

    def write_within(self, connection: Connection, tables: Tables, values: Mapping[str, str | None]) -> None:
        """Write in a transaction of the run's database.

        Raises:
            MemoryTooLarge: the run would remember too much.
        """
        if "run" not in vars(self):
            # Not on a connection of its own: the transaction may be the only one that can speak.
            self.run = self._find(connection)
        memory.write(connection, tables, self.run.id, values)
        run_id, few = self.run.id, _FEW + 1
        if self._is_measured(values, lambda: memory.count(connection, tables, run_id, few)):
            self._check_size(memory.size(connection, tables, run_id))

    def write_elsewhere(self, values: Mapping[str, str | None]) -> None:
        """Write to what keeps it, which is not the database.

        Raises:
            MemoryTooLarge: the run would remember too much.
            MemoryExpired: it is no longer there.
            MemoryUnavailable: what keeps it can't be reached.
        """
        backend, run_id, codec = self.backend, self.run.id, self._runtime.database.tables.codec
        assert backend is not None, "its memory is elsewhere"
        sealed = {key: seal(codec, text) for key, text in values.items()}
        is_measured = self._is_measured(values, lambda: self._count_elsewhere(backend))
        if is_measured or None in values.values():
            kept = self._ask("read", lambda: backend.read(run_id, None))
            # Without a key, what jobs gave to it is gone too.
            gone = [name for name in kept if values.get(name.partition(MARK)[0], "") is None]
            sealed = {**dict.fromkeys(gone), **sealed}
            after = {**kept, **sealed}
            self._check_size(sum(len(text) for text in after.values() if text is not None))
        self._ask("written", lambda: backend.write(run_id, sealed))

    def _count_elsewhere(self, backend: Backend) -> int:
        """How many keys there are; 0 where that is not known."""
        count = getattr(backend, "count", None)
        return 0 if count is None else int(self._ask("read", lambda: count(self.run.id)))

    def _is_measured(self, values: Mapping[str, str | None], count: Callable[[], int]) -> bool:
        """Whether it is seen now how long the whole memory is.

        That takes the longer the more jobs have written. Done by each of many, it would be most of their work.
        """
        written = sum(len(text) for text in values.values() if text is not None)
        if not written or count() <= _FEW:
            return bool(written)
        return written * _ONE_IN > self._runtime.settings.memory_max_bytes or randrange(_ONE_IN) == 0

    def _check_size(self, size: int) -> None:
        limit = self._runtime.settings.memory_max_bytes
        if size > limit:
            what = f"The memory of run {self.run.id}"
            raise MemoryTooLarge(what=what, size=size, limit=limit, setting="memory_max_bytes")

    def begin(self, values: Mapping[str, str]) -> dict[str, str]:
        """Write what a run begins with, if its memory is elsewhere; what is left to write in its database."""
        backend, codec = self.backend, self._runtime.database.tables.codec
        if backend is None:
            return dict(values)
        sealed = {key: seal(codec, text) for key, text in values.items()}
        self._ask("written", lambda: backend.write(self.run.id, sealed))
        return {}

    def extend_ttl(self, seconds: float) -> None:
        """Let it be kept for so many seconds from now at least.

        Raises:
            NotStorable: what keeps it knows of no end.
        """
        extend = getattr(self.backend, "extend_ttl", None)
        if extend is None:
            problem = "it is kept until the run is pruned."
            raise NotStorable(what=f"An end for the memory of run {self.run.id}", problem=problem)
        self._ask("prolonged", lambda: extend(self.run.id, seconds))

    def _ask(self, done: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except FlowsError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise MemoryUnavailable(run_id=self.run.id, done=done, problem=problem) from error


def encoded(key: Any, value: Any, limit: int | None = None) -> str:
    """A value as it is remembered.

    Args:
        limit: how many bytes it may have; None: any number.

    Raises:
        NotStorable: it can't be, or its key is no text.
        MemoryTooLarge: it is too long.
    """
    if not is_key(key) or MARK in key:
        problem = f"keys are texts of at most {LONGEST_KEY} characters."
        raise NotStorable(what=f"The key {key!r} of a run's data", problem=problem)
    try:
        text = encode(value)
    except (TypeError, ValueError) as error:
        raise NotStorable(what=f"What a run's data has under {key!r}", problem=f"{error}.") from error
    if limit is not None and len(text) > limit:
        what = f"What a run's memory has under {key!r}"
        raise MemoryTooLarge(what=what, size=len(text), limit=limit, setting="memory_value_max_bytes")
    return text


def storable(values: Mapping[str, Any]) -> dict[str, str]:
    """Those of these values that can be remembered, as they are."""
    found = {}
    for key, value in values.items():
        with suppress(NotStorable):
            found[key] = encoded(key, value)
    return found


def begin(runtime: Runtime, batch: NewBatch, values: Mapping[str, str] | None = None) -> dict[str, str]:
    """Begin the memory of a batch that is yet to be written, if it has one of its own, and that is elsewhere.

    Returns:
        What is left to write in the database.
    """
    if not batch.begins_run:
        return dict(values or {})
    return RunMemory(runtime, batch.id, Run(batch.id, batch.kind)).begin(values or {})


def share_key(key: str, job_id: str) -> str:
    """Under what a job's share of a merged key is kept.

    Raises:
        NotStorable: it is too long.
    """
    name = f"{key}{MARK}{job_id}"
    if len(name) > LONGEST_KEY:
        most = LONGEST_KEY - len(job_id) - 1
        problem = f"keys that are merged are texts of at most {most} characters."
        raise NotStorable(what=f"The key {key!r} of a run's memory", problem=problem)
    return name
