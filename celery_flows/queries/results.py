"""What named jobs of a flow have returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery_flows.codec import decode
from celery_flows.errors import NoResult
from celery_flows.queries.jobs import named_jobs
from celery_flows.states import JobState
from celery_flows.store import lists
from celery_flows.store.database import Database


class Results(Mapping[str, Any]):
    """Results by the names of the jobs that returned them; each look is a query."""

    def __init__(self, database: Database, batch_id: str) -> None:
        self._database = database
        self._batch_id = batch_id

    def __getitem__(self, name: str) -> Any:
        """Read one.

        Raises:
            NoResult: no job has that name, or it has not returned, or nothing waits for it (a KeyError).
        """
        with self._database.reading() as connection:
            row = lists.result(connection, self._database.tables, self._batch_id, name)
        if row is None:
            raise NoResult(name=name, problem="the flow has no such job")
        if row.state != JobState.COMPLETE:
            raise NoResult(name=name, problem=f"that job is {row.state}")
        if not row.keeps:
            raise NoResult(name=name, problem="no job waits for it, so its result was not kept")
        return decode(row.result)

    def __iter__(self) -> Iterator[str]:
        return (name for name, state in named_jobs(self._database, self._batch_id) if state is JobState.COMPLETE)

    def __len__(self) -> int:
        return sum(1 for _ in self)
