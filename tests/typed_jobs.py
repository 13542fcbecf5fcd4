"""What tests of typed tasks share: models, tasks, and batches of one call."""

from __future__ import annotations

import datetime as dt
from typing import Any

from apps import rows, work
from celery import Celery
from pydantic import BaseModel, Field, SecretStr

from celery_flows import Batch, TypedTask, typed_task


class Document(BaseModel):
    """What the tasks here take."""

    doc_id: str
    text: str = ""
    written: dt.date | None = None
    token: SecretStr | None = None


class Enriched(BaseModel):
    """What they return."""

    words: int
    title: str = Field(default="", alias="heading", max_length=10)


@typed_task(name="typed.enrich")
def enrich(document: Document) -> Enriched:
    """Count words."""
    return Enriched(words=len(document.text.split()), heading=document.doc_id)


class Title(BaseModel):
    title: str
    words: int


@typed_task(name="typed.index", bind=True)
def index(self: Any, found: Title) -> None:
    """Take what was remembered."""
    self.app.flows_test_notes.append((found.title, found.words))


def error_of(app: Celery, batch: Batch) -> tuple[str | None, str]:
    """Work off what is due, and say by what the batch's only job failed."""
    work(app)
    [row] = [row for row in rows(app) if row.batch_id == batch.id]
    assert (batch.status, row.attempt) == ("failed", 1)
    return row.error_class, row.error_message


def in_batch(task: Any, *args: Any, **kwargs: Any) -> Batch:
    """A batch of one call."""
    batch = Batch.create()
    with batch.jobs():
        task.delay(*args, **kwargs)
    return batch


class Enrich(TypedTask[Document, Enriched]):
    """A class whose run says what it takes."""

    name = "typed.class"
    remember = False

    def run(self, document: Document) -> Enriched:
        return Enriched(words=1)
