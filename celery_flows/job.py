"""The job that the running task is."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import _state

from celery_flows.batch import Batch
from celery_flows.memory import Memory
from celery_flows.messaging import data, effects
from celery_flows.messaging.adding import add_to_flow
from celery_flows.messaging.claims import Claim, current_claim
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import Node, condition_of
from celery_flows.queries.results import Results
from celery_flows.shown.words import in_brackets, short
from celery_flows.store.database import Connection


@dataclass(frozen=True)
class Job:
    """A job that is being run."""

    #: Celery's task id.
    id: str
    #: Which attempt this is, from 1: retries and redeliveries count.
    attempt: int
    #: The batch that it belongs to; in a callback, the batch that it announces.
    batch: Batch
    _claim: Claim

    def __repr__(self) -> str:
        return in_brackets(f"Job {short(self.id)}", [f"attempt {self.attempt}", f"of {self.batch!r}"])

    @property
    def data(self) -> MutableMapping[str, Any]:
        """What the jobs of the run share, by name: texts to what JSON can hold.

        What is changed is written together with the job's outcome, if that is a success; an error or a retry
        forgets it. Where two jobs change one key at once, what was committed later stays; other keys are not
        touched by it.
        """
        return data.of(_state.get_current_worker_task().request, self._claim)

    @property
    def memory(self) -> Memory:
        """What the jobs of the run remember: `write`, `read` and `clear`; `data` is its view as a mapping.

        What is written is kept together with the job's outcome, if that is a success (with a memory outside of
        the database: right before it).
        """
        return Memory(data.of(_state.get_current_worker_task().request, self._claim))

    @property
    def results(self) -> Results:
        """What named jobs of the flow have returned, by name: of those for which any job waits."""
        return Results(self._claim.runtime.database, self.batch.id)

    def add(
        self,
        target: Any,
        /,
        *args: Any,
        after: Any = None,
        when: str = "complete",
        name: str | None = None,
        queue: str | None = None,
        countdown: float | None = None,
        **kwargs: Any,
    ) -> Node:
        """Add a job to the flow that this one belongs to: what waits for this job waits for it too.

        A job added with when="failure" is waited for as well, and holds nothing up where it is not needed.

        It is enrolled at once, and as often as this job runs. For many at once, open a block instead:
        `with current_job().batch.jobs():`.

        Args:
            target: a task, a signature, a canvas (what waits for it waits for its end), a task's name, or a flow
                (its class, or `SomeFlow.s(...)`).
            args: what it is called with.
            after: what it waits for: names of jobs of the flow, or what `add` gave; one, or several.
            when: how that must have ended: "complete", "failure" or "settled".
            name: what it is called; unique in the flow. With a name its result is kept, for jobs that are added
                behind it.
            queue: where it runs; None: as its task says.
            countdown: seconds that it waits once its turn has come.
            kwargs: what it is called with by name.

        Returns:
            The job, for the `after` of others.

        Raises:
            UnknownTask: the task is not registered.
            PlanInvalid: `after` or `when` is wrong, or the name is taken.
            NotJson: an argument can't be stored.
            BatchFinished: the batch is finished.
            JobTaken: this job was given up meanwhile.
        """
        options = {"queue": queue, "countdown": countdown}
        call = (target, args, kwargs)
        return add_to_flow(self._claim, self.batch.id, call, name, options, after, condition_of(when, after))

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a database transaction that commits together with the job's outcome, when the task returns.

        What is written on its connection happens exactly once: an error, a retry, or another worker that has
        taken the job meanwhile rolls it back. Leaving the block does not end the transaction; an error that
        leaves the block does. On SQLite nobody else can write until the task returns.

        Returns:
            A SQLAlchemy Connection. Don't commit on it.
        """
        with effects.transaction(_state.get_current_worker_task().request, self._claim) as connection:
            yield connection


def current_job() -> Job | None:
    """The job that the running task is, or None outside a batch. Bound tasks have it as `self.job`."""
    claim = current_claim()
    if claim is None:
        return None
    delivery = claim.delivery
    batch = _batch(claim.runtime, delivery.batch_id or delivery.announces_id)
    return Job(delivery.job_id, claim.attempt, batch, claim)


def _batch(runtime: Runtime, batch_id: str | None) -> Batch:
    assert batch_id is not None, "a job belongs to a batch or announces one"
    return Batch(batch_id, runtime)
