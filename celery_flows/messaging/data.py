"""The data that the jobs of a run share, as one job sees and changes it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from celery_flows.codec import LONGEST_KEY, decode, encode, is_key
from celery_flows.errors import NotStorable
from celery_flows.messaging.claims import Claim
from celery_flows.store import memory
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables

_ATTRIBUTE: Final = "flows_data"


class Data(MutableMapping[str, Any]):
    """A mapping that is read when it is first asked for; what a job changes is written with its outcome.

    Keys are texts, values what JSON can hold. A value that is changed in place is noticed too.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._run_id = ""
        # As stored; and what was made of it, for those that were asked for or given.
        self._stored: dict[str, str] | None = None
        self._values: dict[str, Any] = {}
        self._deleted: set[str] = set()

    def _texts(self) -> dict[str, str]:
        if self._stored is None:
            database, delivery = self._claim.runtime.database, self._claim.delivery
            with database.reading() as connection:
                batch_id = delivery.batch_id or delivery.announces_id or ""
                self._run_id = memory.run_of(connection, database.tables, batch_id)
                self._stored = memory.read(connection, database.tables, self._run_id)
        return self._stored

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            if key in self._deleted:
                raise KeyError(key)
            self._values[key] = decode(self._texts()[key])
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        encoded(key, value)
        self._texts()
        self._values[key] = value
        self._deleted.discard(key)

    def __delitem__(self, key: str) -> None:
        self[key]
        del self._values[key]
        self._deleted.add(key)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._texts(), *self._values} - self._deleted))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Data of run {self._run_id}>" if self._stored is not None else "<Data, not read yet>"

    def changes(self) -> dict[str, str | None]:
        """What is to be written, as stored; None where a key is deleted.

        Raises:
            NotStorable: a value was changed in place to what can't be stored.
        """
        texts = self._texts() if self._values or self._deleted else {}
        written = {key: encoded(key, value) for key, value in self._values.items()}
        changed: dict[str, str | None] = {key: text for key, text in written.items() if texts.get(key) != text}
        return changed | {key: None for key in self._deleted if key in texts}

    def write(self, connection: Connection, tables: Tables) -> None:
        """Write what has changed; of two jobs that change one key, the later commit stays."""
        memory.write(connection, tables, self._run_id, self.changes())


def encoded(key: str, value: Any) -> str:
    """A value as it is stored.

    Raises:
        NotStorable: it can't be, or its key is no text.
    """
    if not is_key(key):
        problem = f"keys are texts of at most {LONGEST_KEY} characters."
        raise NotStorable(what=f"The key {key!r} of a run's data", problem=problem)
    try:
        return encode(value)
    except (TypeError, ValueError) as error:
        raise NotStorable(what=f"What a run's data has under {key!r}", problem=f"{error}.") from error


def of(request: Any, claim: Claim) -> Data:
    """The data of the job that a request runs."""
    found: Data | None = getattr(request, _ATTRIBUTE, None)
    if found is None:
        found = Data(claim)
        setattr(request, _ATTRIBUTE, found)
    return found


def is_changed(request: Any) -> bool:
    """Whether a job has changed its data."""
    found: Data | None = getattr(request, _ATTRIBUTE, None)
    return found is not None and bool(found.changes())


def forget(request: Any) -> None:
    """Undo what a job has changed of its data."""
    if getattr(request, _ATTRIBUTE, None) is not None:
        setattr(request, _ATTRIBUTE, None)


def write(request: Any, connection: Connection, tables: Tables) -> None:
    """Write what a job has changed, in the transaction of its outcome."""
    found: Data | None = getattr(request, _ATTRIBUTE, None)
    if found is not None:
        found.write(connection, tables)
