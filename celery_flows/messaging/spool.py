"""Where a block keeps its calls until they are written: in memory up to a chunk, then in a temporary file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import IO

from celery_flows.store.bulk import NewJob


class Spool:
    """Captured calls in order, read in chunks as often as needed."""

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._tail: list[NewJob] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def append(self, job: NewJob) -> None:
        """Keep one call."""
        self._tail.append(job)
        self._length += 1
        if len(self._tail) >= self._chunk_size:
            self._write_tail()

    def extend(self, other: Spool) -> None:
        """Keep the calls of another spool as well."""
        for chunk in other:
            for job in chunk:
                self.append(job)

    def _write_tail(self) -> None:
        if self._file is None:
            # Closed by clear(): no block of code frames the life of a spool.
            self._file = tempfile.TemporaryFile(prefix="celery-flows-")  # noqa: SIM115
        self._file.seek(0, 2)
        self._file.write(json.dumps(self._tail).encode() + b"\n")
        self._tail = []

    def __iter__(self) -> Iterator[list[NewJob]]:
        if self._file is not None:
            self._file.seek(0)
            for line in self._file:
                yield [NewJob(*values) for values in json.loads(line)]
        if self._tail:
            yield list(self._tail)

    def __len__(self) -> int:
        return self._length

    def clear(self) -> None:
        """Forget all calls and remove the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._tail, self._length = None, [], 0

    def __del__(self) -> None:
        # A block whose transaction is rolled back is never told.
        self.clear()
