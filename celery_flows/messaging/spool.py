"""Where a block keeps its calls until they are written: in memory up to a chunk, then in a temporary file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Generic, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])


class Spool(Generic[T]):
    """Named tuples of one sort in order, such as captured calls, read in chunks as often as needed."""

    def __init__(self, chunk_size: int, make: Callable[..., T]) -> None:
        """Begin with none.

        Args:
            make: makes one of its values, which JSON can hold.
        """
        self._chunk_size = chunk_size
        self._make = make
        self._tail: list[T] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def append(self, one: T) -> None:
        """Keep one."""
        self._tail.append(one)
        self._length += 1
        if len(self._tail) >= self._chunk_size:
            self._write_tail()

    def extend(self, other: Spool[T]) -> None:
        """Keep those of another spool as well."""
        for chunk in other:
            for one in chunk:
                self.append(one)

    def _write_tail(self) -> None:
        if self._file is None:
            # Closed by clear(): no block of code frames the life of a spool.
            self._file = tempfile.TemporaryFile(prefix="celery-flows-")  # noqa: SIM115
        self._file.seek(0, 2)
        self._file.write(json.dumps(self._tail).encode() + b"\n")
        self._tail = []

    def __iter__(self) -> Iterator[list[T]]:
        if self._file is not None:
            self._file.seek(0)
            for line in self._file:
                yield [self._make(*values) for values in json.loads(line)]
        if self._tail:
            yield list(self._tail)

    def __len__(self) -> int:
        return self._length

    def clear(self) -> None:
        """Forget all and remove the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._tail, self._length = None, [], 0

    def __del__(self) -> None:
        # A block whose transaction is rolled back is never told.
        self.clear()
