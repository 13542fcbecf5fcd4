"""A flow that writes wherever it goes, for tests that strike the processes which run it."""

from __future__ import annotations

from acceptance.making import task
from acceptance.writing import insert
from sqlalchemy.exc import OperationalError

from celery_flows import Batch, Sequence, Workflow, current_job, step


def written(name: str) -> None:
    """Write a row in the job's own transaction."""
    job = current_job()
    assert job is not None
    with job.transaction() as connection:
        insert(connection, name)


@task("flow", autoretry_for=(OperationalError,), default_retry_delay=0, max_retries=None)
def grow_written(key: str) -> None:
    """Add a job by a block, and one behind another: as often as this runs, so they are called by the time."""
    job = current_job()
    assert job is not None
    with job.batch.jobs():
        job._claim.runtime.app.tasks["jobs.write"].delay(f"{key} grown {job.attempt}")
    job.add("jobs.write", f"{key} added {job.attempt}", after="rescue")


class Counted(Sequence):
    """Steps that count themselves in the data."""

    on_loss = "retry"

    def _count(self, name: str) -> None:
        self.data["steps"] = [*self.data.get("steps", []), name]
        written(f"{self.data['key']} {name}")

    @step
    def one(self) -> None:
        """Count it."""
        self._count("one")

    @step
    def two(self) -> None:
        """Count it."""
        self._count("two")

    def on_complete(self, batch: Batch) -> None:
        """Write how far it came."""
        written(f"{self.data['key']} steps {' '.join(self.data['steps'])}")


class Struck(Workflow):
    """A join of many, a flow inside, a failure branch, and a job that adds others."""

    on_loss = "retry"
    #: The job that fails, and the one that waited for it in vain.
    tolerate = 2

    def plan(self, key: str) -> None:
        """Say what is run."""
        first = self.run("jobs.write", f"{key} first")
        sides = [self.run("jobs.write", f"{key} side {one}", after=first) for one in range(2)]
        sides += [self.run("flow.grow_written", key, after=first), self.run(Counted.s(key=key), after=first)]
        low = [self.run("jobs.write", f"{key} low {one}", after=sides) for one in range(2)]
        broken = self.run("jobs.broken", after=first)
        self.run("jobs.write", f"{key} vain", after=broken)
        rescue = self.run("jobs.write", f"{key} rescue", after=broken, when="failure", name="rescue")
        self.run("jobs.write", f"{key} end", after=[*low, rescue])

    def on_settled(self, batch: Batch) -> None:
        """Write that it is over."""
        written(f"{batch.context} settled")
