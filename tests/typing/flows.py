"""Users' code as `mypy --strict` must take it: checked with the package (see tox.ini), never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from celery import Celery

from celery_flows import Batch, BatchingTask, Flows, Job, Orchestration, Sequence, Workflow, current_job, step

app = Celery("shop")
flows = Flows(app, database_url="sqlite://")


@app.task  # type: ignore[untyped-decorator] # Celery's is
def create_message(name: str = "") -> None:
    """A task like any other."""
    job: Job | None = current_job()
    assert job is not None
    job.data["name"] = name
    job.add(create_message, "x", after="create", when="failure")


class ContactForm(Sequence):
    """A step may have the name of a method that every batch has."""

    create = step(create_message)
    cancel = step(create_message, countdown=5)

    @step
    def notify(self) -> None:
        """A method as a step."""
        self.data["notified"] = self.helper()

    @step(queue="slow", retries=3)
    def later(self) -> None:
        """A method with options."""

    def helper(self) -> int:
        """A helper."""
        return 1

    def on_complete(self, batch: Batch) -> None:
        """A handler."""
        self.data["done"] = batch.status


class LongForm(ContactForm):
    """Overrides a step of each sort."""

    create = step(create_message.s("x"))

    def notify(self) -> None:
        """Overridden as a method."""
        super().notify()


class BottleBeer(BatchingTask):
    """Arguments of split and process have the types that they have."""

    queue = "brewery"
    tolerate = "5%"
    process_options: ClassVar[dict[str, object]] = {"acks_late": True}

    def split(self, brewery_id: int, size: int = 12) -> Iterator[list[int]]:
        """Give slices."""
        yield [brewery_id] * size

    def process(self, bottles: list[int]) -> None:
        """Do one."""


class Import(Orchestration):
    """Flows of each kind are jobs."""

    def plan(self, import_id: int, *, parts: int = 2) -> None:
        """Say what is run."""
        self.run(create_message, import_id)
        with self.in_parallel():
            self.run(ContactForm.s(name="x"))
            self.run(BottleBeer, parts)
            with self.in_series():
                self.run("shop.create_message")


class Gallery(Workflow):
    """A graph."""

    def plan(self, gallery_id: int, image_ids: list[int]) -> None:
        """Say what is run."""
        resized = [self.run(create_message, one) for one in image_ids]
        manifest = self.run(create_message, gallery_id, after=resized, name="manifest")
        self.run(create_message, after=[resized, [manifest]], when="settled")


form: ContactForm = ContactForm.start(name="Joel")
words: list[str] = [form.status, form.current_step or "", *form.data]
gallery: Gallery = Gallery.using(tags=["x"]).on("settled", create_message).start(1, [2])
chart: str = Gallery.preview(1, [2]).to_mermaid()
total: int = gallery.total_progress.total
