"""The data of a run as it is seen from outside its jobs: read and written at once."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from celery_flows.codec import decode
from celery_flows.messaging.data import encoded
from celery_flows.store import memory
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables


class RunData(MutableMapping[str, Any]):
    """A mapping of texts to what JSON can hold; each use is a query."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id

    def _texts(self) -> dict[str, str]:
        with self._database.reading() as connection:
            tables = self._database.tables
            return memory.read(connection, tables, memory.run_of(connection, tables, self._batch_id))

    def _write(self, key: str, text: str | None) -> None:
        def write(connection: Connection, tables: Tables) -> None:
            memory.write(connection, tables, memory.run_of(connection, tables, self._batch_id), {key: text})

        self._database.transact(write, self._database.tables)

    def __getitem__(self, key: str) -> Any:
        return decode(self._texts()[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self._write(key, encoded(key, value))

    def __delitem__(self, key: str) -> None:
        self[key]
        self._write(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts())

    def __len__(self) -> int:
        return len(self._texts())

    def __repr__(self) -> str:
        return repr({key: decode(text) for key, text in self._texts().items()})
