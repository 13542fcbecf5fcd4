"""The memory of a run as it is seen from outside its jobs: read and written at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any

from celery_flows.codec import decode
from celery_flows.errors import KeyIsMerged
from celery_flows.messaging.memory import RunMemory, encoded
from celery_flows.messaging.runtime import Runtime


class RunData(MutableMapping[str, Any]):
    """A mapping of texts to what JSON can hold; each use is a query."""

    def __init__(self, runtime: Runtime, batch_id: str) -> None:
        self.memory = RunMemory(runtime, batch_id)
        self._merges, self._limit = runtime.merges, runtime.settings.memory_value_max_bytes

    def __getitem__(self, key: str) -> Any:
        return decode(self.memory.read([key])[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self.give({key: value})

    def __delitem__(self, key: str) -> None:
        self[key]
        self.forget([key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.memory.read())

    def __len__(self) -> int:
        return len(self.memory.read())

    def __repr__(self) -> str:
        return repr({key: decode(text) for key, text in self.memory.read().items()})

    def give(self, values: Mapping[str, Any]) -> None:
        """Set keys, in one transaction.

        Raises:
            NotStorable: a value can't be, or a key is no text.
            MemoryTooLarge: a value is too long, or the run would remember too much.
            KeyIsMerged: a key is merged from what jobs give.
        """
        texts = {key: encoded(key, value, self._limit) for key, value in values.items()}
        for key in texts:
            if self._merges.of(key) is not None:
                raise KeyIsMerged(key=key)
        self.memory.write_now(texts)

    def forget(self, keys: Collection[str]) -> None:
        """Delete keys, whether they are there or not."""
        self.memory.write_now(dict.fromkeys(keys))

    def some(self, keys: Collection[str]) -> dict[str, Any]:
        """What is under those of these keys that are known."""
        return {key: decode(text) for key, text in self.memory.read(keys).items()}
