"""Looking at many batches as at one."""

from __future__ import annotations

from collections.abc import Iterable

from celery_flows.batch import Batch
from celery_flows.progress import Progress


class Watch:
    """The progress of batches, all together. A batch that is done is not asked again."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._open = list(batches)
        self._done: list[Progress] = []

    def look(self) -> Progress:
        """How far all of them have come."""
        seen = [(batch, batch.progress) for batch in self._open]
        self._open = [batch for batch, progress in seen if progress.pending]
        self._done += [progress for _, progress in seen if not progress.pending]
        return sum_of([*self._done, *(progress for _, progress in seen if progress.pending)])


def sum_of(many: Iterable[Progress]) -> Progress:
    """Add up counts; the time that has passed is the longest."""
    every = list(many)
    return Progress(
        total=sum(one.total for one in every),
        complete=sum(one.complete for one in every),
        failed=sum(one.failed for one in every),
        cancelled=sum(one.cancelled for one in every),
        pending=sum(one.pending for one in every),
        running=sum(one.running for one in every),
        elapsed=max(one.elapsed for one in every),
    )
