"""Calls as they are compared, and as they are written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from celery_flows.codec import decode, encode
from celery_flows.queries.record import JobRecord

#: How many jobs a message shows.
_SHOWN: Final = 5


class Call:
    """A call that is looked for."""

    def __init__(
        self, task: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Describe it.

        Args:
            task: the task, or its name.
            args: None: whatever they are.
            kwargs: None: whatever they are.

        Raises:
            TypeError: `task` is neither.
        """
        self.task = name_of(task)
        # As a row has them: what was a tuple is a list there.
        self._args = None if args is None else decode(encode(list(args)))
        self._kwargs = None if kwargs is None else decode(encode(dict(kwargs)))

    def fits(self, job: JobRecord) -> bool:
        """Whether a job is such a call."""
        is_alike = self._args is None or job.args == self._args
        return job.task == self.task and is_alike and (self._kwargs is None or job.kwargs == self._kwargs)

    def like(self, jobs: Iterable[JobRecord]) -> list[JobRecord]:
        """These jobs, the most like it first."""
        wanted = str(self)
        compared = difflib.SequenceMatcher(b=wanted)

        def distance(job: JobRecord) -> tuple[bool, float]:
            compared.set_seq1(written(job.task, job.args, job.kwargs))
            return job.task != self.task, -compared.ratio()

        return sorted(jobs, key=distance)

    def __str__(self) -> str:
        return written(self.task, self._args, self._kwargs)


def name_of(task: Any) -> str:
    """The name of a task.

    Raises:
        TypeError: it is neither a task nor a name.
    """
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"a task is meant by itself or by its name, not by {task!r}")
    return name


def written(task: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> str:
    """A call as Python writes it; where its arguments may be any, dots."""
    by_place = ["..."] if args is None else [repr(one) for one in args]
    return f"{task}({', '.join([*by_place, *(f'{name}={value!r}' for name, value in (kwargs or {}).items())])})"


def listed(jobs: Sequence[JobRecord]) -> str:
    """The first few jobs, a line each."""
    lines = [f"  {line_of(job)}" for job in jobs[:_SHOWN]]
    lines += [f"  and {len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else []
    return "\n".join(lines)


def line_of(job: JobRecord) -> str:
    """A job in a few words."""
    name = "" if job.name is None else f"{job.name}: "
    error = "" if job.error_class is None else f", {job.error_class}: {job.error_message}"
    return f"{name}{written(job.task, job.args, job.kwargs)}: {job.state}{error}"
