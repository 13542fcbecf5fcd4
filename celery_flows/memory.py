"""The memory of a run: what its jobs keep for one another, and where that may be kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from celery_flows.errors import ConfigurationError, MemoryExpired
from celery_flows.messaging.data import Data
from celery_flows.messaging.memory import Backend
from celery_flows.messaging.rundata import RunData

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Backend", "Memory", "RedisMemory"]


class Memory:
    """What the jobs of a run remember: texts to what JSON can hold.

    In a job, `current_job().memory`: what it writes is kept with its outcome, if that is a success.
    From outside, `batch.memory`: each use is a query, and what is written is there at once.
    """

    def __init__(self, data: Data | RunData, prefix: str = "") -> None:
        self._data = data
        self._prefix = prefix

    def write(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Remember these; of a key that is merged (the setting flows_merges), give what is merged into it.

        Raises:
            NotStorable: a value can't be stored, or a key is no text.
            MemoryTooLarge: a value is too long; or, from outside of a job, the run would remember too much.
            KeyIsMerged: from outside of a job, for a key that is merged from what jobs give.
        """
        given = {**(values or {}), **more}
        self._data.give({f"{self._prefix}{key}" if self._prefix else key: given[key] for key in given})

    def read(self, *keys: str) -> dict[str, Any]:
        """What is remembered under those of these keys that are known; without any, everything.

        Raises:
            MergeFailed: what jobs gave can't be merged.
            MemoryExpired: it is no longer there, where it is not kept in the database.
            MemoryUnavailable: what keeps it can't be reached.
        """
        found = self._data.some([self._prefix + key for key in keys]) if keys else self._everything()
        return {key.removeprefix(self._prefix): value for key, value in found.items()}

    def _everything(self) -> dict[str, Any]:
        return {key: value for key, value in self._data.items() if key.startswith(self._prefix)}

    def clear(self, *keys: str) -> None:
        """Forget these keys; without any, everything."""
        self._data.forget([self._prefix + key for key in keys] if keys else [*self._everything()])

    def of(self, name: str) -> Memory:
        """What is remembered under a job's name, `name.key`: as a task with remember="job" leaves it."""
        return Memory(self._data, f"{self._prefix}{name}.")

    def extend_ttl(self, seconds: float) -> None:
        """Let the run's memory be kept for so many seconds from now at least, at once.

        Raises:
            NotStorable: it is kept where it has no end, such as in the database.
        """
        self._data.memory.extend_ttl(seconds)

    def __repr__(self) -> str:
        return f"<Memory {self._prefix or 'of a run'}>"


#: A field that each run's hash has from its beginning; no key of a user's is like it.
_BEGUN: Final = "\x1f"


class RedisMemory:
    """Keeps the memories of runs in Redis 7 or newer, a hash for each, which expires.

    Give it to the setting flows_memory. What a job writes is there before the job's outcome is: a process that
    dies between the two leaves it behind, and the job runs again.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "celery-flows:memory:",
        ttl: float = 604_800.0,
        client: Redis | None = None,
    ) -> None:
        """Keep memories at a URL, or with a client that you have.

        Args:
            url: such as "redis://localhost/1".
            prefix: what the names of the hashes begin with; a run's id comes after it.
            ttl: seconds after which a memory is gone that nobody writes to.
            client: of redis-py; in place of a URL.

        Raises:
            ConfigurationError: neither or both of `url` and `client` are given, or the ttl is not above 0.
        """
        if (url is None) == (client is None) or ttl <= 0:
            raise ConfigurationError(
                problem='RedisMemory takes a URL or a client, and a ttl above 0: RedisMemory("redis://localhost/1")'
            )
        self._url = url
        self._given = client
        self._made: Redis | None = None
        self._prefix = prefix
        self._ttl = ttl

    @property
    def _client(self) -> Redis:
        """The client, which is made at first use; redis-py's pools know of forks."""
        if self._given is not None:
            return self._given
        if self._made is None:
            from redis import Redis  # an optional dependency

            self._made = Redis.from_url(str(self._url))
        return self._made

    def _key(self, run_id: str) -> str:
        return self._prefix + run_id

    def write(self, run_id: str, mapping: Mapping[str, str | None]) -> None:
        """Keep these; None: forget the key. The time until it expires begins anew."""
        key, gone = self._key(run_id), [name for name, text in mapping.items() if text is None]
        kept = {name: text for name, text in mapping.items() if text is not None}
        begun: dict[Any, Any] = {_BEGUN: "", **kept}
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=begun)
            if gone:
                pipe.hdel(key, *gone)
            # At first, and then only if that is later: `extend_ttl` may have said more.
            pipe.pexpire(key, round(self._ttl * 1000), nx=True)
            pipe.pexpire(key, round(self._ttl * 1000), gt=True)
            pipe.execute()

    def read(self, run_id: str, keys: Collection[str] | None) -> dict[str, str]:
        """What is kept under these keys; None: everything.

        Raises:
            MemoryExpired: there is nothing of this run.
        """
        names = None if keys is None else [_BEGUN, *keys]
        found: dict[Any, Any]
        if names is None:
            found = self._client.hgetall(self._key(run_id))
        else:
            values: Any = self._client.hmget(self._key(run_id), names)
            found = dict(zip(names, values, strict=True))
        texts = {_text(name): _text(value) for name, value in found.items() if value is not None}
        if _BEGUN not in texts:
            raise MemoryExpired(run_id=run_id)
        del texts[_BEGUN]
        return texts

    def count(self, run_id: str) -> int:
        """How many keys it has.

        Raises:
            MemoryExpired: there is nothing of this run.
        """
        fields = int(self._client.hlen(self._key(run_id)))
        if not fields:
            raise MemoryExpired(run_id=run_id)
        return fields - 1

    def clear(self, run_id: str) -> None:
        """Forget the run."""
        self._client.delete(self._key(run_id))

    def extend_ttl(self, run_id: str, seconds: float) -> None:
        """Let it be kept for so many seconds from now at least.

        Raises:
            MemoryExpired: there is nothing of this run.
        """
        with self._client.pipeline(transaction=True) as pipe:
            pipe.exists(self._key(run_id))
            pipe.pexpire(self._key(run_id), round(seconds * 1000), gt=True)
            is_there, _ = pipe.execute()
        if not is_there:
            raise MemoryExpired(run_id=run_id)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
