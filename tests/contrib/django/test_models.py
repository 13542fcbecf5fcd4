"""The tables as Django's models: read, never written."""

from __future__ import annotations

from typing import Any

import pytest
from apps import work
from celery import Celery
from django.apps import apps

from celery_flows import Batch, Sequence, step
from celery_flows.contrib.django.models import FlowBatch, FlowJob, FlowWorker
from celery_flows.contrib.django.querysets import ReadOnly


def batch_of(app: Celery, *numbers: int, **options: Any) -> Batch:
    """A batch of calls; those below zero fail."""
    batch = Batch.create(app=app, **options)
    with batch.jobs():
        for number in numbers:
            app.tasks["shop.fail" if number < 0 else "shop.add"].delay(number)
    return batch


def test_what_is_read(app: Celery) -> None:
    """A batch and its jobs are read with everything that a batch tells, and lead back to the live batch."""
    batch = batch_of(app, 1, -2, description="Rescore", context={"id": 42}, tags=["night"], key="k")
    work(app)
    found = FlowBatch.objects.get(id=batch.id)
    assert (found.state, found.description, found.context, found.tags, found.key) == (
        *("failed", "Rescore", {"id": 42}),
        *(["night"], "k"),
    )
    assert found.batch == batch
    assert [job.args for job in found.batch.failed_jobs] == [[-2]]
    failed = found.jobs.failed().get()
    assert (failed.args, failed.error_class, failed.attempts, failed.batch) == ([-2], "ValueError", 1, found)
    assert FlowWorker.objects.count() == 0


def test_queries(app: Celery) -> None:
    """Batches are asked for by where they stand, by tag and by parent; jobs as a batch counts them."""
    done, failed = batch_of(app, 1, tags=["a"]), batch_of(app, -1, tags=["A", 'say "a"'])
    work(app)
    parent = Batch.create(app=app)
    with parent.jobs():
        child = batch_of(app, 2, 3)
    ids = {
        "finished": {done.id, failed.id},
        "unfinished": {parent.id, child.id},
        "running": {parent.id, child.id},
        "failed": {failed.id},
        "top_level": {done.id, failed.id, parent.id},
    }
    assert {name: {one.id for one in getattr(FlowBatch.objects, name)()} for name in ids} == ids
    tags = {"a": [done.id], "A": [failed.id], 'say "a"': [failed.id], "say": []}
    assert {tag: [one.id for one in FlowBatch.objects.tagged(tag)] for tag in tags} == tags
    assert [one.id for one in FlowBatch.objects.get(id=parent.id).children.all()] == [child.id]
    assert FlowJob.objects.counted().filter(batch=child.id).pending().count() == 2
    assert FlowBatch.objects.first().id == child.id


def test_a_flow_is_of_its_own_class(app: Celery) -> None:
    """Of a flow's row, the live batch is the flow."""

    class Greeting(Sequence):
        hello = step(app.tasks["shop.note"])

    flow = Greeting.start()
    assert isinstance(FlowBatch.objects.get(id=flow.id).batch, Greeting)


def test_nothing_is_written(app: Celery) -> None:
    """Every way to write a row is refused, and says what to do instead."""
    batch_of(app, 1)
    found, objects = FlowBatch.objects.get(), FlowBatch.objects
    for write in (
        found.save,
        found.delete,
        lambda: objects.create(id="1"),
        lambda: objects.update(state="complete"),
        lambda: objects.all().delete(),
        lambda: objects.bulk_create([found]),
        lambda: objects.bulk_update([found], ["state"]),
        lambda: objects.get_or_create(id="1"),
        lambda: found.jobs.update(state="complete"),
        lambda: found.jobs.create(id="1"),
    ):
        with pytest.raises(ReadOnly, match=r"cancel or retry the live batch"):
            write()
    assert FlowJob.objects.get().state == "queued"


def test_names_in_the_shell() -> None:
    """The models have names of their own, so that the shell's imports don't hide Batch."""
    names = {model.__name__ for model in apps.get_app_config("celery_flows").get_models()}
    assert names == {"FlowBatch", "FlowJob", "FlowWorker"}
