"""A block with which its batch begins: the batch's row, its jobs and its callbacks are one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery_flows.messaging import eager, effects
from celery_flows.messaging.block import Block, parents_block
from celery_flows.messaging.claims import current_claim
from celery_flows.messaging.memory import begin
from celery_flows.messaging.runtime import Runtime
from celery_flows.states import Kind
from celery_flows.store import batches
from celery_flows.store.joined import Joinable
from celery_flows.transitions.create import NewBatch
from celery_flows.transitions.enroll import Nested, NewJob, Share


class FoundingBlock(Block):
    """Collects the jobs of a flow that is not there yet."""

    def __init__(
        self, runtime: Runtime, batch: NewBatch, *, parent_id: str | None = None, joined: Joinable | None = None
    ) -> None:
        """Begin a flow: as a child of the open block's batch, of the one given, or on its own."""
        eager.prepare(runtime.app)
        outer = parents_block(runtime, parent_id)
        connection = None if joined is None else runtime.joined(joined)
        if outer is not None:
            connection = outer.connection_for(connection)
        super().__init__(runtime, batch.id, connection, starts=True)
        self._row = batch._replace(parent_id=outer.batch_id if outer is not None else parent_id)
        self._is_adopted = outer is None and parent_id is not None
        self._outer = outer
        #: Whether its data is its own, rather than that of a batch above.
        self.begins_run = self._row.begins_run
        #: What was planned, as it is stored.
        self.plan: str | None = None

    def close(self) -> None:
        """Write everything, or leave it to the block around."""
        self.data = begin(self.runtime, self._row, self.data)
        self._flows.append(Nested(tuple(self._row._replace(plan=self.plan)), begins=False))
        if self._outer is not None:
            self._outer.adopt(self.batch_id)
            self._founded.add(self.batch_id)
        elif self._is_adopted:
            self._add(NewJob(self.batch_id, self._row.parent_id, Kind.BATCH, "", "[]", "{}", "{}"))
        super().close()

    @property
    def shares(self) -> list[Share]:
        """Whose jobs these are, children first."""
        above = [Share(self._row.parent_id, 1, starts=False)] if self._is_adopted and self._row.parent_id else []
        return [*super().shares, *above]


def enroll_with_outcome(
    runtime: Runtime, batch_id: str, fill: Callable[[Block], str | None], request: Any
) -> None:
    """Enroll what a running job plans for its batch in the transaction of the job's outcome: so it is there once.

    Args:
        fill: puts jobs into the block, and gives the plan as it is stored, where there is one.
        request: that of the running task.
    """
    claim = current_claim()
    assert claim is not None, "only a job plans"
    # What user's code does comes first: the transaction shall be short.
    block = Block(runtime, batch_id, None, starts=False)
    plan = fill(block)
    with effects.transaction(request, claim) as connection:
        block.connection = connection
        if plan is not None:
            batches.keep_plan(connection, runtime.database.tables, batch_id, plan)
        block.close()
