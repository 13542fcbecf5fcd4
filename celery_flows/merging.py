"""Merges: what becomes of a key of a run's memory that several jobs write.

Without a merge the later one stays. With one, what each job gives is kept in a row of its own, under the job's id
(its share, a list), and what the key holds is made of all shares where it is read. So a job that runs again
replaces its own share, jobs side by side do not wait for one another, and no memory needs to do more than write,
read and clear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any, Final, TypeAlias

from celery_flows.codec import decode, encode
from celery_flows.errors import ConfigurationError, MergeFailed

#: Makes a new value of what a key holds (None where nothing yet) and of what a job gives.
Merge: TypeAlias = Callable[[Any, Any], Any]

#: Stands between a key and the id of the job whose share a row is; no key of a user's holds it.
MARK: Final = "\x1f"

#: What follows it in the order of the database: all shares of a key lie between the two.
AFTER_MARK: Final = "\x20"


def total(kept: Any, given: Any) -> Any:
    """Add numbers up."""
    return given if kept is None else kept + given


def append(kept: Any, given: Any) -> list[Any]:
    """Make a list of what each job gives."""
    return [*(kept or ()), given]


def union(kept: Any, given: Any) -> list[Any]:
    """Make one list of the lists that jobs give, with each value once."""
    found = list(kept or ())
    for value in given:
        if value not in found:
            found.append(value)
    return found


#: The merges that have a name.
NAMED: Final[Mapping[str, Merge]] = {"sum": total, "append": append, "union": union}


class Merges:
    """Which keys are merged, and how: by key, or by a pattern such as "*.words"."""

    def __init__(self, merges: Mapping[str, Merge]) -> None:
        self._merges = dict(merges)

    def of(self, key: str) -> Merge | None:
        """How a key is merged; None where the later value stays."""
        exact = self._merges.get(key)
        if exact is not None:
            return exact
        return next((merge for name, merge in self._merges.items() if fnmatchcase(key, name)), None)

    def fold(self, rows: Mapping[str, str]) -> dict[str, str]:
        """Make what keys hold of what is stored, in the order of keys and of jobs.

        Raises:
            MergeFailed: a merge can't take what it was given.
            ConfigurationError: jobs gave shares of a key for which this app has no merge.
        """
        found: dict[str, str] = {}
        for key, texts in _by_key(rows):
            found[key] = self._value(key, texts)
        return found

    def _value(self, key: str, texts: Mapping[str, str]) -> str:
        plain = texts.get("")
        if list(texts) == [""]:
            return texts[""]
        merge = self.of(key)
        if merge is None:
            raise ConfigurationError(
                problem=f"Jobs gave shares of {key!r} in a run's memory, and this app has no merge for it: "
                "the setting flows_merges must be the same for all that read and write."
            )
        shares = [one for job_id, text in sorted(texts.items()) if job_id for one in decode(text)]
        try:
            return encode(reduce(merge, shares, decode(plain)))
        except Exception as error:
            raise MergeFailed(key=key, problem=f"{type(error).__name__}: {error}") from error


def _by_key(rows: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Keys with what is stored under each: the plain value under "", shares under their jobs' ids."""
    found: dict[str, dict[str, str]] = {}
    for name, text in rows.items():
        key, _, job_id = name.partition(MARK)
        found.setdefault(key, {})[job_id] = text
    for key in sorted(found):
        yield key, found[key]
