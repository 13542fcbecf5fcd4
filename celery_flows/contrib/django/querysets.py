"""What can be asked of the read-only models."""

from __future__ import annotations

import json
from typing import Any, NoReturn, Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Replace

from celery_flows.contrib.django.options import alias
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store.workers import SWEEP


class ReadOnly(TypeError):
    """Rows of celery-flows change by its own transitions only: cancel or retry the live batch, for example."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class ReadOnlyQuerySet(models.QuerySet):
    """Rows that can be read."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            ReadOnly: always.
        """
        raise ReadOnly

    create = update = delete = bulk_create = bulk_update = get_or_create = update_or_create = _refuse


_Manager: Any = models.Manager.from_queryset(ReadOnlyQuerySet)


class ReadOnlyManager(_Manager):
    """Reads where the batches are, whatever database the project's routers would name."""

    def get_queryset(self) -> Any:
        """All rows."""
        found = super().get_queryset()
        return found if self._db is not None else found.using(alias())


class BatchQuerySet(ReadOnlyQuerySet):
    """Batches."""

    def unfinished(self) -> Self:
        """Those with jobs left to run, or not begun."""
        return self.filter(settled_at=None)

    def finished(self) -> Self:
        """Those of which no job is left to run."""
        return self.exclude(settled_at=None)

    def running(self) -> Self:
        """Those that have begun and have no fate yet."""
        return self.filter(state=BatchState.RUNNING)

    def failed(self) -> Self:
        """Those that failed, finished or not."""
        return self.filter(state=BatchState.FAILED)

    def top_level(self) -> Self:
        """Those that are nobody's child."""
        return self.filter(parent=None)

    def tagged(self, tag: str) -> Self:
        """Those with a tag."""
        # Tags are a JSON list: before one stands a bracket or a comma and a space, which inside of one can't stand
        # before a bare quote. Not LIKE, which on some databases ignores case.
        found = self
        for number, before in enumerate(("[", ", ")):
            without = Replace("tags", models.Value(before + json.dumps(tag)), output_field=models.TextField())
            found = found.alias(**{f"tags_{number}": without})
        return found.exclude(tags_0=models.F("tags"), tags_1=models.F("tags"))


class JobQuerySet(ReadOnlyQuerySet):
    """Jobs, and what else has a row among them."""

    def pending(self) -> Self:
        """Those that have not ended."""
        return self.filter(outcome=None)

    def complete(self) -> Self:
        """Those that returned."""
        return self.filter(outcome=JobState.COMPLETE)

    def failed(self) -> Self:
        """Those that failed for good."""
        return self.filter(outcome=JobState.FAILED)

    def counted(self) -> Self:
        """Those that are jobs to a user, as a batch's progress counts them."""
        is_call = Q(kind__in=[Kind.TASK, Kind.BATCH, Kind.CALLBACK])
        is_planning = Q(kind=Kind.PLAN) & ~Q(state=JobState.COMPLETE)
        return self.filter(is_call | is_planning | Q(kind=Kind.BLOCK, state=JobState.FAILED))


class WorkerManager(ReadOnlyManager):
    """Workers' processes."""

    def get_queryset(self) -> Any:
        """All but the row that says whose turn the sweep is."""
        return super().get_queryset().exclude(id=SWEEP)
