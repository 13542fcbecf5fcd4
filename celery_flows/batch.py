"""Batches: jobs with one fate."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Any, Final

from celery_flows.codec import safe_text
from celery_flows.errors import BlockMisuse, WaitTimeout
from celery_flows.ids import new_id
from celery_flows.memory import Memory
from celery_flows.messaging.block import being_there, holder_of, parents_block
from celery_flows.messaging.callback import new_callback, waiting
from celery_flows.messaging.claims import grower_here
from celery_flows.messaging.collecting import collecting
from celery_flows.messaging.given import (
    check_on_loss,
    encode_context,
    encode_key,
    encode_tags,
    moment,
    owns_memory,
)
from celery_flows.messaging.memory import begin
from celery_flows.messaging.rundata import RunData
from celery_flows.messaging.runtime import Runtime, find_runtime, in_transaction, runtime_for
from celery_flows.messaging.steering import cancel_batch, retry_batch
from celery_flows.queries import batches as batch_queries
from celery_flows.queries.batches import BatchRecord
from celery_flows.queries.explain import Explanation, explain
from celery_flows.seen import Seen
from celery_flows.states import BATCH_KINDS, BatchState, one_of
from celery_flows.store.database import Connection
from celery_flows.store.joined import Joinable, after_commit
from celery_flows.store.publishing import ReadyJob
from celery_flows.tolerance import Tolerance
from celery_flows.transitions.create import NewBatch, adopt, create
from celery_flows.transitions.grow import Grower
from celery_flows.transitions.listen import listen
from celery_flows.transitions.reopen import Mode

#: Longest pause between two looks of `wait`, in seconds.
_LONGEST_PAUSE: Final = 1.0


#: The classes of flows, by module and name: each adds itself.
classes: dict[str, type[Batch]] = {}


class Batch(Seen):
    """A set of jobs with one fate: complete, failed or cancelled.

    Make one with `Batch.create()`, find one with `Batch.get(id)`. What it tells is read from the database
    at that moment; what never changes (description, context, tags) is read once.
    """

    @classmethod
    def create(
        cls,
        *,
        description: str | None = None,
        context: Any = None,
        tolerate: int | str = 0,
        tags: Iterable[str] = (),
        parent: Batch | None = None,
        on_loss: str | None = None,
        key: str | None = None,
        memory: str | None = None,
        connection: Joinable | None = None,
        app: Any = None,
    ) -> Batch:
        """Make a pending batch.

        Inside an open block of another batch it is that one's child, whose row in it is written with the block.

        Args:
            description: what people should read in lists.
            context: anything that JSON can hold, kept with the batch.
            tolerate: how much may go wrong before the batch fails: a number of jobs (10) or a share of all
                jobs known ("5%", rounded down).
            tags: words to find it by.
            parent: the batch that it is to be a child of. That one still starts with a block of its own.
            on_loss: what becomes of its jobs whose worker died, "fail" or "retry"; None: as the settings say.
            key: a text that one unfinished batch may have at a time, so that the same work is not begun twice.
            memory: "own": its jobs remember things for one another apart from what it is a child of; None:
                together with that.
            connection: a SQLAlchemy Connection or Session whose transaction it joins.
            app: the Celery app; by default the running task's, the current one, or the only one with Flows.

        Raises:
            NoFlows: no app was found.
            NotJson: the context can't be stored.
            InvalidSetting: the tolerance is not one, the tags are a single text, or memory is another word.
            BatchExists: an unfinished batch has the key.
            TooLong: the key has more than 255 characters.
            BatchFinished: the parent is finished.
            BatchCancelled: the parent is cancelled.
            BlockMisuse: a child made in its parent's block can't join another transaction than the block.
        """
        runtime = runtime_for(parent, app)
        block = parents_block(runtime, None if parent is None else parent.id)
        parent_id = block.batch_id if block is not None else parent.id if parent is not None else None
        batch = NewBatch(
            new_id(),
            "batch",
            None if description is None else safe_text(description),
            encode_context(context),
            encode_tags(tags),
            str(Tolerance.parse(tolerate)),
            parent_id,
            check_on_loss(on_loss),
            owns_memory=owns_memory(memory),
            batch_key=encode_key(key),
        )
        joined = None if connection is None else runtime.joined(connection)
        begin(runtime, batch)
        if block is not None:
            joined = block.connection_for(joined)
        grower = grower_here(runtime)
        in_transaction(runtime, joined, _create, batch, adopts=block is None, grower=grower)
        if block is not None:
            block.adopt(batch.id)
        made = cls(batch.id, runtime)
        made._described = batch.description
        return made

    @classmethod
    def get(cls, batch_id: str, *, app: Any = None, connection: Joinable | None = None) -> Batch:
        """Find a batch by its id.

        Raises:
            BatchNotFound: there is none: the id is wrong, or the batch was pruned.
            NoFlows: no app was found.
        """
        runtime = find_runtime(app)
        joined = None if connection is None else runtime.joined(connection)
        record = batch_queries.batch(runtime.database, safe_text(batch_id), joined)
        return _class_of(record, cls)(record.id, runtime, record)

    @classmethod
    def list(
        cls,
        *,
        state: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        tag: str | None = None,
        limit: int = 100,
        app: Any = None,
    ) -> list[Batch]:
        """Find the newest batches, newest first.

        Args:
            state: "pending", "running", "complete", "failed" or "cancelled".
            kind: "batch", "sequence", "orchestration", "workflow", "batching" or "canvas", or what else a flow
                class that is imported here says as its flow_kind.
            since: made at or after this moment; a naive one is in local time.
            tag: with this tag.
            limit: at most so many.

        Raises:
            ValueError: there is no such state or kind.
            TypeError: `since` is no moment.
        """
        runtime = find_runtime(app)
        records = batch_queries.batches(
            runtime.database,
            state=None if state is None else BatchState(one_of("state", state, BatchState)),
            kind=None if kind is None else one_of("kind", kind, _kinds()),
            since=moment(since),
            tag=None if tag is None else safe_text(tag),
            limit=limit,
        )
        return [_class_of(record, cls)(record.id, runtime, record) for record in records]

    def jobs(self, *, streaming: bool = False, connection: Joinable | None = None) -> AbstractContextManager[None]:
        """Open a block: the calls of tasks made in it become jobs of this batch when it ends.

        The calls are those of this context and thread. If the block raises, nothing is enrolled and nothing
        is published. May be opened again while the batch is unfinished, also by one of its jobs. With
        Django's delay_on_commit inside, it ends with the transaction; with task_always_eager, the jobs run
        at its end.

        Args:
            streaming: write and publish as the calls come, a chunk at a time, for feeds that never fit.
                If the block raises, what was enrolled runs, and the batch fails.
            connection: a SQLAlchemy Connection or Session: the rows join its transaction, and publishing
                follows its commit.

        Raises:
            BatchFinished: the batch is finished; raised at the start where it is so already, else at the end.
            BatchCancelled: it is cancelled, and waits only for the jobs that run; raised likewise.
            NotJson: at a call whose arguments can't be stored.
            PlanInvalid: at a chord without a body.
            BlockMisuse: streaming and connection don't go together.
            JoinRefused: the batch runs, and the joined transaction is above READ COMMITTED.
        """
        return collecting(self._runtime, self.id, streaming=streaming, joined=connection)

    def on(
        self,
        event: str,
        callback: Any,
        *,
        queue: str | None = None,
        connection: Joinable | None = None,
    ) -> Batch:
        """Add a callback. It runs once per event and round, and is a job of its own, outside the batch.

        Args:
            event: "complete" (or "success"): no job is left to run, and what went wrong was tolerated;
                "failure": at once, when more went wrong; "settled": no job is left, whatever came of them.
            callback: a task, or a signature of one: `task.s(...)` gets the batch id as its first argument,
                `task.si(...)` gets its own arguments only.
            queue: where to run it; by default the setting callback_queue, or the task's own route.
            connection: a SQLAlchemy Connection or Session whose transaction it joins.

        Returns:
            The batch, so that calls can follow one another.

        Raises:
            UnknownEvent: there is no such event.
            UnknownTask: the callback is not registered with the app.
            CanvasNotSupported: the callback is a chain, chord or group.
            PlanInvalid: it is a flow.
            NotJson: its arguments or options can't be stored.
            BatchFinished: the batch is finished, so the event will not come.
        """
        added = new_callback(self._runtime, self.id, event, callback, queue)
        joined = None if connection is None else self._runtime.joined(connection)
        block = holder_of(self._runtime, self.id)
        if block is not None and block.founds(self.id):
            block.keep(waiting(added))
            return self
        if joined is None and block is not None:
            joined = block.connection
        ready = in_transaction(self._runtime, joined, listen, added)
        if joined is None:
            self._runtime.publisher.publish(ready)
        elif ready:
            after_commit(joined, partial(_publish, self._runtime, ready))
        return self

    @property
    def parent(self) -> Batch | None:
        """The batch that it is a child of, or None."""
        parent_id = self._known().parent_id
        return None if parent_id is None else Batch(parent_id, self._runtime)

    @property
    def memory(self) -> Memory:
        """What its jobs remember for one another, seen from outside; in a job see `current_job().memory`."""
        return Memory(RunData(self._runtime, self.id))

    def wait(self, timeout: float | None = None) -> str:
        """Wait until it is finished.

        Args:
            timeout: seconds to wait at most; None: without end.

        Returns:
            Its status then.

        Raises:
            BlockMisuse: its own block is open here, so the wait would never end.
            WaitTimeout: it was not finished in time (a TimeoutError).
            BatchNotFound: it does not exist.
        """
        if holder_of(self._runtime, self.id) is not None:
            raise BlockMisuse(problem=f"Batch {self.id} can't finish before its block ends: wait after the block.")
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while (record := self._read()).settled_at is None:
            if timeout is not None and deadline is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    raise WaitTimeout(batch_id=self.id, timeout=timeout, progress=repr(self.progress))
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        return str(record.state)

    def cancel(self, *, terminate: bool = False) -> None:
        """End it early: jobs that have not started are cancelled, in child batches too; only `settled` fires.

        Cancelling twice, or a finished batch, changes nothing.

        Args:
            terminate: also end the jobs that run now (Celery's revoke with terminate); else they finish.
        """
        with being_there(self._runtime, self.id):
            cancel_batch(self._runtime, self.id, terminate=terminate)

    def retry(self, mode: str = "failed+downstream") -> None:
        """Run a finished batch again, in a new round with new callbacks; ancestors that failed by it reopen.

        Args:
            mode: "failed": jobs that failed, were cancelled, revoked or expired; "failed+downstream": also those
                skipped because of them; "all": every job.

        Raises:
            ValueError: there is no such mode.
            BatchUnfinished: it has jobs left to run.
        """
        with being_there(self._runtime, self.id):
            retry_batch(self._runtime, self.id, Mode(one_of("mode", mode, Mode)))

    def explain(self) -> Explanation:
        """Why it is not finished: each job, child, block and callback that it waits for, and what happens next."""
        with being_there(self._runtime, self.id):
            return explain(self._runtime.database, self.id, self._runtime.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batch) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def _class_of(record: BatchRecord, default: type[Batch]) -> type[Batch]:
    """The class of a flow, where it is imported here; a plain batch's is Batch."""
    return classes.get(record.flow or "", default)


def _kinds() -> list[str]:
    """The kinds that a batch may be of: ours, and those of the flow classes that are imported here."""
    kinds = (getattr(one, "flow_kind", "") for one in classes.values())
    return list(dict.fromkeys([*BATCH_KINDS, *sorted(kinds)]))


def _create(connection: Connection, tables: Any, batch: NewBatch, *, adopts: bool, grower: Grower | None) -> None:
    create(connection, tables, batch)
    if adopts and batch.parent_id is not None:
        adopt(connection, tables, batch.parent_id, batch.id, grower)


def _publish(runtime: Runtime, ready: list[ReadyJob]) -> None:
    runtime.publisher.publish(ready)
