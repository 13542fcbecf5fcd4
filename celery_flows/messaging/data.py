"""The memory of a run as one job sees and changes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from functools import reduce
from typing import Any, Final

from celery_flows.codec import decode
from celery_flows.errors import KeyIsMerged, NotRemembered
from celery_flows.merging import Merge
from celery_flows.messaging.claims import Claim
from celery_flows.messaging.memory import RunMemory, encoded, share_key
from celery_flows.queries.jobs import job_name
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables

_ATTRIBUTE: Final = "flows_data"


class Data(MutableMapping[str, Any]):
    """A mapping that is read when it is first asked for; what a job changes is written with its outcome.

    Keys are texts, values what JSON can hold. A value that is changed in place is noticed too.
    """

    def __init__(self, claim: Claim) -> None:
        runtime, delivery = claim.runtime, claim.delivery
        self.memory = RunMemory(runtime, delivery.batch_id or delivery.announces_id or "")
        self._merges, self._limit = runtime.merges, runtime.settings.memory_value_max_bytes
        self._job_id = delivery.job_id
        # As stored; and what was made of it, for those that were asked for or given.
        self._stored: dict[str, str] | None = None
        self._values: dict[str, Any] = {}
        self._deleted: set[str] = set()
        # What this job gives to keys that are merged, and what it was shown of them.
        self._shares: dict[str, list[Any]] = {}
        self._shown: dict[str, tuple[str, Any]] = {}

    def _texts(self) -> dict[str, str]:
        if self._stored is None:
            self._stored = self.memory.read()
        return self._stored

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            if key not in self:
                raise KeyError(key)
            merge = self._merges.of(key)
            if merge is not None:
                return self._show(key, merge)
            self._values[key] = decode(self._texts()[key])
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values or key in self._shares or (key in self._texts() and key not in self._deleted)

    def _show(self, key: str, merge: Merge) -> Any:
        value = self._merged(key, merge, self._texts())
        self._shown[key] = (encoded(key, value), value)
        return value

    def _merged(self, key: str, merge: Merge, texts: Mapping[str, str]) -> Any:
        kept = None if key in self._deleted else decode(texts.get(key))
        return reduce(merge, self._shares.get(key, ()), kept)

    def __setitem__(self, key: str, value: Any) -> None:
        encoded(key, value, self._limit)
        if self._merges.of(key) is not None:
            raise KeyIsMerged(key=key)
        self._set(key, value)

    def _set(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._deleted.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self.forget([key])

    def __iter__(self) -> Iterator[str]:
        kept = self._texts().keys() - self._deleted
        return iter(sorted({*kept, *self._values, *self._shares}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Data of run {self.memory.run.id}>" if self._stored is not None else "<Data, not read yet>"

    def give(self, values: Mapping[str, Any]) -> None:
        """Set keys; of those that are merged, give what is merged into them.

        Raises:
            NotStorable: a value can't be, or a key is no text.
            MemoryTooLarge: a value is too long.
        """
        for key, value in values.items():
            encoded(key, value, self._limit)
        for key, value in values.items():
            if self._merges.of(key) is None:
                self._set(key, value)
            else:
                share_key(key, self._job_id)
                self._shares.setdefault(key, []).append(value)

    def forget(self, keys: Iterable[str]) -> None:
        """Delete keys, whether they are there or not."""
        for key in keys:
            for kept in (self._values, self._shares, self._shown):
                kept.pop(key, None)
            self._deleted.add(key)

    def some(self, keys: Collection[str]) -> dict[str, Any]:
        """What is under those of these keys that are known; asks for no others."""
        texts = self._stored
        if texts is None:
            texts = self.memory.read(keys)
        found: dict[str, Any] = {}
        for key in keys:
            merge, is_kept = self._merges.of(key), key in texts and key not in self._deleted
            if key in self._values:
                found[key] = self._values[key]
            elif merge is not None and (key in self._shares or is_kept):
                found[key] = self._merged(key, merge, texts)
            elif is_kept:
                found[key] = decode(texts[key])
        return found

    def changes(self) -> dict[str, str | None]:
        """What is to be written, as stored; None where a key is deleted.

        Raises:
            NotStorable: a value was changed in place to what can't be stored.
            MemoryTooLarge: a value was changed in place to what is too long.
            KeyIsMerged: a value was changed in place that is merged.
        """
        for key, (text, value) in self._shown.items():
            if encoded(key, value) != text:
                raise KeyIsMerged(key=key)
        texts = self._stored or {}
        written = {key: encoded(key, value, self._limit) for key, value in self._values.items()}
        changed = {key: text for key, text in written.items() if texts.get(key) != text}
        shares = {
            share_key(key, self._job_id): encoded(key, given, self._limit) for key, given in self._shares.items()
        }
        return {**dict.fromkeys(self._deleted), **changed, **shares}


def of(request: Any, claim: Claim) -> Data:
    """The data of the job that a request runs."""
    found: Data | None = getattr(request, _ATTRIBUTE, None)
    if found is None:
        found = Data(claim)
        setattr(request, _ATTRIBUTE, found)
    return found


def _changed(request: Any) -> Data | None:
    found: Data | None = getattr(request, _ATTRIBUTE, None)
    return found if found is not None and found.changes() else None


def is_changed(request: Any) -> bool:
    """Whether a job has changed what is to be written with its outcome."""
    found = _changed(request)
    return found is not None and found.memory.backend is None


def forget(request: Any) -> None:
    """Undo what a job has changed of its data."""
    if getattr(request, _ATTRIBUTE, None) is not None:
        setattr(request, _ATTRIBUTE, None)


def write(request: Any, connection: Connection, tables: Tables) -> None:
    """Write what a job has changed, in the transaction of its outcome.

    Raises:
        MemoryTooLarge: the run would remember too much.
    """
    found = _changed(request)
    if found is not None and found.memory.backend is None:
        found.memory.write_within(connection, tables, found.changes())


def write_elsewhere(request: Any) -> None:
    """Write what a job has changed to a memory that is not in the database, before its outcome.

    Raises:
        MemoryTooLarge: the run would remember too much.
        MemoryExpired: it is no longer there.
        MemoryUnavailable: what keeps it can't be reached.
    """
    found = _changed(request)
    if found is not None and found.memory.backend is not None:
        found.memory.write_elsewhere(found.changes())


def remember(task: Any, request: Any, claim: Claim, result: Any) -> None:
    """Give what a task returned to its run's memory, if the task asks for it with `remember`.

    Raises:
        NotRemembered: it is no mapping, or `remember` is not True, False or "job".
        NotStorable: a value can't be, or a key is no text.
        MemoryTooLarge: a value is too long.
    """
    asked = getattr(task, "remember", None)
    if not asked or result is None:
        return
    if asked not in (True, "job") or not isinstance(result, Mapping):
        raise NotRemembered(task=task.name, remember=asked, given=type(result).__name__)
    data = of(request, claim)
    if asked is True:
        data.give(result)
    else:
        name = job_name(claim.runtime.database, claim.delivery.job_id) or task.name
        data.give({f"{name}.{key}": value for key, value in result.items()})
