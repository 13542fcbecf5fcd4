"""What is in the tables, as read-only models of Django's.

Alembic owns the schema, so they are unmanaged; they lack columns that only celery-flows itself can read.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from celery_flows.batch import Batch
from celery_flows.contrib.django.fields import StoredJson, StoredText
from celery_flows.contrib.django.options import table
from celery_flows.contrib.django.querysets import (
    BatchQuerySet,
    JobQuerySet,
    ReadOnly,
    ReadOnlyManager,
    WorkerManager,
)
from celery_flows.states import BATCH_KINDS, BatchState, JobState, Kind


class _ReadOnlyModel(models.Model):
    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            ReadOnly: always.
        """
        raise ReadOnly

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            ReadOnly: always.
        """
        raise ReadOnly


def _key(**options: Any) -> models.CharField:
    return models.CharField(max_length=255, **options)


def _points_to(model: str, name: str, **options: Any) -> models.ForeignKey:
    """A column with another row's id, which the database does not hold to it."""
    return models.ForeignKey(
        model, models.DO_NOTHING, db_constraint=False, db_index=False, null=True, related_name=name, **options
    )


class FlowBatch(_ReadOnlyModel):
    """A batch's row. What can be done with it is done with `.batch`."""

    id = _key(primary_key=True)
    kind = models.CharField(max_length=32, choices=[(kind, kind) for kind in BATCH_KINDS])
    state = models.CharField(max_length=16, choices=[(str(state), str(state)) for state in BatchState])
    description = models.TextField(null=True)
    context: Any = StoredJson(null=True)
    tags: Any = StoredJson(null=True)
    tolerate = models.CharField(max_length=16)
    on_loss = models.CharField(max_length=8, null=True)
    round = models.IntegerField()
    parent = _points_to("self", "children")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    flow = _key(null=True)
    key = _key(null=True, db_column="batch_key")

    objects = ReadOnlyManager.from_queryset(BatchQuerySet)()

    class Meta:
        managed = False
        db_table = table("batches")
        verbose_name = "batch"
        verbose_name_plural = "batches"
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [
            ("cancel_flowbatch", "Can cancel batch"),
            ("retry_flowbatch", "Can retry batch"),
            ("explain_flowbatch", "Can explain batch"),
        ]

    def __str__(self) -> str:
        return self.description or str(self.id)

    @property
    def batch(self) -> Batch:
        """The live batch, of its flow's own class: its progress, its jobs, and what can be done with it."""
        return Batch.get(self.id)


class FlowJob(_ReadOnlyModel):
    """A job's row; also that of a callback, of a child in its parent, and of a flow's planning."""

    id = _key(primary_key=True)
    batch = _points_to("FlowBatch", "jobs")
    announces = _points_to("FlowBatch", "callbacks")
    kind = models.CharField(max_length=16, choices=[(str(kind), str(kind)) for kind in Kind])
    event = models.CharField(max_length=16, null=True)
    round = models.IntegerField()
    name = _key(null=True)
    task = _key()
    args: Any = StoredJson(null=True)
    kwargs: Any = StoredJson(null=True)
    state = models.CharField(max_length=16, choices=[(str(state), str(state)) for state in JobState])
    outcome = models.CharField(max_length=16, null=True)
    attempts = models.IntegerField(db_column="attempt")
    losses = models.SmallIntegerField()
    worker = _points_to("FlowWorker", "jobs")
    queue = _key(null=True)
    error_class = _key(null=True)
    error_message: Any = StoredText(null=True)
    enrolled_at = models.DateTimeField()
    queued_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects = ReadOnlyManager.from_queryset(JobQuerySet)()

    class Meta:
        managed = False
        db_table = table("jobs")
        verbose_name = "job"
        ordering = ["id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name or self.task or self.kind} {self.id}"


class FlowWorker(_ReadOnlyModel):
    """A worker process's row: it lives while its heartbeat is fresh."""

    id = _key(primary_key=True)
    hostname = _key()
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    objects = WorkerManager()

    class Meta:
        managed = False
        db_table = table("workers")
        verbose_name = "worker"
        ordering = ["id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.hostname} ({self.pid})"
