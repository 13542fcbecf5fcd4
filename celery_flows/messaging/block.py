"""An open `with batch.jobs():`, and what happens when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery_flows.errors import (
    BatchCancelled,
    BatchFinished,
    BatchNotFound,
    BlockMisuse,
    CanvasNotSupported,
    JoinRefused,
)
from celery_flows.ids import new_id
from celery_flows.messaging import eager
from celery_flows.messaging.call import encode_arguments, encode_options, expiry
from celery_flows.messaging.context import innermost, within
from celery_flows.messaging.lease import Lease
from celery_flows.messaging.result import EnrolledResult, hold
from celery_flows.messaging.runtime import Runtime
from celery_flows.messaging.spool import Spool
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store import batches, jobs
from celery_flows.store.batches import BatchStanding
from celery_flows.store.database import Connection
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.joined import Joinable, after_commit, connection_of, strict_isolation
from celery_flows.transitions.enroll import NewJob, Share, enroll
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.stream import abandon_stream, check_stream, close_stream, open_stream

#: How something is put off until a transaction that is not SQLAlchemy's commits: Django's `on_commit`.
Defer = Callable[[Callable[[], None]], None]


class Block:
    """Collects the calls made in its context and enrolls them when it ends."""

    def __init__(self, runtime: Runtime, batch_id: str, connection: Connection | None, *, starts: bool) -> None:
        self.runtime = runtime
        self.batch_id = batch_id
        self.connection = connection
        self.is_open = True
        #: The block around this one, whatever its batch.
        self.around: Block | None = open_block()
        self._starts = starts
        self._thread = threading.get_ident()
        self._spool = Spool(runtime.settings.chunk_size)
        self._count = 0
        self._is_published = False
        # Child batches made in this block, blocks that ended in it, and the block that it ended in.
        self._children: set[str] = set()
        self._absorbed: list[Block] = []
        self._carrier: Block | None = None
        # What its end is put off with, and whether a call made now is.
        self._defer: Defer | None = None
        self._is_deferring = False

    @property
    def takes_calls(self) -> bool:
        """Whether a call made here and now belongs to this block."""
        return self.is_open and self._thread == threading.get_ident()

    def capture(self, task: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> EnrolledResult:
        """Keep a call for the end of the block.

        Raises:
            NotJson: an argument or option can't be stored.
            CanvasNotSupported: the call is the head of a chain or chord.
        """
        for shape in ("chain", "chord"):
            if options.get(shape):
                raise CanvasNotSupported(shape=shape, task=task)
        options = self._lineage(options) | {key: value for key, value in options.items() if value is not None}
        job_id = options.pop("task_id", None) or new_id()
        expires_at = options["expires"] = expiry(options)
        encoded = (*encode_arguments(task, args, kwargs), encode_options(task, options))
        self._keep(NewJob(job_id, self.batch_id, Kind.TASK, task, *encoded, expires_at))
        return hold(job_id, self.runtime.app, lambda: self.is_held)

    def adopt(self, child_id: str) -> None:
        """Keep a child batch made in this block: a row that stands for it is enrolled with the others."""
        self._children.add(child_id)
        self._add(NewJob(child_id, self.batch_id, Kind.BATCH, "", "[]", "{}", "{}"))

    @contextmanager
    def deferring(self, defer: Defer) -> Iterator[None]:
        """Let calls made inside, and the end of this block, wait for the commit that `defer` hangs on.

        A call whose savepoint is rolled back is forgotten, as `defer` forgets what it was given.
        """
        self._defer, self._is_deferring = defer, True
        try:
            yield
        finally:
            self._is_deferring = False

    def _keep(self, job: NewJob) -> None:
        if self._defer is not None and self._is_deferring:
            self._defer(lambda: self._add(job))
        else:
            self._add(job)

    def _add(self, job: NewJob) -> None:
        self._count += 1
        self._writer._spool.append(job)

    def _lineage(self, options: Mapping[str, Any]) -> dict[str, Any]:
        # As Celery does when it publishes, which here is later and elsewhere.
        app = self.runtime.app
        parent = app.current_worker_task
        if parent is None:
            return {}
        request = parent.request
        found = {"root_id": request.root_id or request.id, "parent_id": request.id}
        if app.conf.task_inherit_parent_priority and "priority" not in options:
            found["priority"] = request.delivery_info.get("priority")
        return found

    @property
    def _writer(self) -> Block:
        """The block with which this one's calls are written."""
        return self if self._carrier is None else self._carrier._writer

    @property
    def is_held(self) -> bool:
        """Whether the calls made here are yet to be published."""
        return self.is_open or not self._writer._is_published

    def close(self) -> None:
        """End without an error: enroll everything, or leave it to the block around that holds the batch."""
        self.is_open = False
        holder = _holder(self.around, self.batch_id)
        if holder is not None:
            holder.absorb(self)
        else:
            self.end()

    def end(self) -> None:
        """Enroll everything, at the commit that a call waits for, if one does."""
        if self._defer is not None:
            self._defer(self.commit)
        else:
            self.commit()

    def abort(self, error: BaseException) -> None:
        """End with an error: nothing is enrolled."""
        self.is_open = False
        self._spool.clear()

    def holds(self, batch_id: str) -> bool:
        """Whether a batch is this block's, or was made in it: their rows must be written together."""
        return batch_id == self.batch_id or batch_id in self._children

    def absorb(self, inner: Block) -> None:
        """Take over what a block inside has collected."""
        self._spool.extend(inner._spool)
        inner._spool.clear()
        inner._carrier = self
        self._absorbed.append(inner)
        self._children |= inner._children
        self._defer = self._defer or inner._defer

    @property
    def shares(self) -> list[Share]:
        """Whose jobs these are, children first."""
        inner = [share for block in self._absorbed for share in block.shares]
        return [*inner, Share(self.batch_id, self._count, self._starts)]

    def connection_for(self, joined: Connection | None) -> Connection | None:
        """The connection on which a child's rows are written: this block's.

        Raises:
            BlockMisuse: another was asked for.
        """
        if joined is not None and joined is not self.connection:
            raise BlockMisuse(
                problem="A batch made in its parent's block is written with that block, so it can't join "
                "another transaction. Leave connection= away, or give it to the parent's block."
            )
        return self.connection

    def commit(self) -> None:
        """Write all rows in one transaction; publish after it is committed."""
        database = self.runtime.database
        if self.connection is not None:
            enroll(self.connection, database.tables, self._spool, self.shares)
            after_commit(self.connection, self._publish_joined)
            return
        if len(self._spool) or any(share.starts for share in self.shares):
            database.transact(self._write)
        self._publish(ready_jobs(self._spool))

    def _write(self, connection: Connection) -> None:
        enroll(connection, self.runtime.database.tables, self._spool, self.shares)

    def _publish(self, ready: Iterable[ReadyJob]) -> None:
        self._is_published = True
        self.runtime.publisher.publish(ready)
        self._spool.clear()
        # A block without jobs ends its batch, as nothing else will.
        for share in self.shares:
            if share.starts and not share.jobs:
                self.runtime.publisher.publish(advance(self.runtime.database, share.batch_id))

    def _publish_joined(self) -> None:
        # What is there now: the rows of a savepoint that was rolled back are not.
        self._publish(job for chunk in self._spool for job in self._committed(chunk))

    def _committed(self, chunk: list[NewJob]) -> list[ReadyJob]:
        database = self.runtime.database
        with database.reading() as connection:
            return jobs.ready_among(connection, database.tables, [job.id for job in chunk])


class StreamingBlock(Block):
    """Enrolls and publishes chunk by chunk, behind a row that keeps the batch unfinished."""

    def __init__(self, runtime: Runtime, batch_id: str, *, starts: bool) -> None:
        super().__init__(runtime, batch_id, None, starts=False)
        self._lease = Lease(runtime.settings, runtime.new_database(check=False))
        self._lease.start()
        self._block_id = self._lease.id
        database = runtime.database
        try:
            database.transact(open_stream, database.tables, self._block_id, batch_id, starts=starts)
        except BaseException:
            self._lease.stop()
            raise

    def _add(self, job: NewJob) -> None:
        super()._add(job)
        if self.is_open and len(self._spool) >= self.runtime.settings.chunk_size:
            self.flush()

    def flush(self) -> None:
        """Enroll and publish what has been collected."""
        self.commit()
        self._count = 0

    def _write(self, connection: Connection) -> None:
        super()._write(connection)
        check_stream(connection, self.runtime.database.tables, self._block_id, self.batch_id)

    def absorb(self, inner: Block) -> None:
        """Write the child's row first, then let the child's block end on its own."""
        self.flush()
        inner.end()

    def close(self) -> None:
        """End: publish the rest and take the block's row away."""
        try:
            self.is_open = False
            if self._commit_is_ahead():
                raise BlockMisuse(
                    problem="A streaming block publishes as it goes, so it can't end before the transaction "
                    "that delay_on_commit waits for. Open the transaction inside the block."
                )
            self.flush()
        except BaseException as error:
            self.abort(error)
            raise
        self._lease.stop()
        self.runtime.publisher.publish(close_stream(self.runtime.database, self._block_id, self.batch_id))

    def abort(self, error: BaseException) -> None:
        """End with an error: what was enrolled runs, and the batch fails."""
        super().abort(error)
        self._lease.stop()
        problem = f"{type(error).__name__}: {error}"
        ready = abandon_stream(self.runtime.database, self._block_id, self.batch_id, problem)
        self.runtime.publisher.publish(ready)

    def _commit_is_ahead(self) -> bool:
        # Without a transaction around, what is deferred is done at once.
        done: list[bool] = []
        if self._defer is not None:
            self._defer(lambda: done.append(True))
        return self._defer is not None and not done


def ready_jobs(chunks: Iterable[list[NewJob]]) -> Iterator[ReadyJob]:
    """The calls among newly enrolled jobs, as their first publisher needs them."""
    for chunk in chunks:
        for job in chunk:
            if job.kind == Kind.TASK:
                yield ReadyJob(
                    job.id,
                    job.batch_id,
                    None,
                    job.kind,
                    JobState.READY,
                    job.task,
                    job.args,
                    job.kwargs,
                    job.options,
                    1,
                )


def open_block() -> Block | None:
    """The block to which a call made here and now belongs, or None."""
    block: Block | None = innermost()
    return block if block is not None and block.takes_calls else None


@contextmanager
def collecting(
    runtime: Runtime, batch_id: str, *, streaming: bool = False, joined: Joinable | None = None
) -> Iterator[None]:
    """Enroll the calls made inside.

    Raises:
        BatchNotFound: there is no such batch.
        BatchFinished: it is finished.
        BatchCancelled: it is cancelled.
        BlockMisuse: streaming can't be had here.
        JoinRefused: the joined transaction can't see the batch finish.
    """
    eager.prepare(runtime.app)
    block = _open(runtime, batch_id, streaming=streaming, joined=joined)
    with within(block):
        try:
            yield
        except BaseException as error:
            block.abort(error)
            raise
        else:
            block.close()


def _open(runtime: Runtime, batch_id: str, *, streaming: bool, joined: Joinable | None) -> Block:
    outer = _holder(open_block(), batch_id)
    connection = None if joined is None else connection_of(joined)
    if outer is not None:
        connection = outer.connection_for(connection)
    starts = _starts(runtime, batch_id, connection)
    if not streaming:
        return Block(runtime, batch_id, connection, starts=starts)
    if connection is not None:
        raise BlockMisuse(problem="A streaming block commits as it goes, so it can't join a transaction.")
    if outer is not None and not isinstance(outer, StreamingBlock):
        raise BlockMisuse(
            problem="A streaming block can't stand inside the ordinary block of its batch or of its batch's "
            "parent, whose rows are not written yet. Make that one streaming too, or open this one after it."
        )
    if outer is not None:
        outer.flush()
    return StreamingBlock(runtime, batch_id, starts=starts)


def holder_of(runtime: Runtime, batch_id: str) -> Block | None:
    """The open block here with which the rows of a batch are written, or None."""
    block = _holder(open_block(), batch_id)
    return block if block is not None and block.runtime is runtime else None


def _holder(block: Block | None, batch_id: str) -> Block | None:
    """The nearest open block, from this one outwards, with which the rows of a batch must be written."""
    while block is not None and not (block.takes_calls and block.holds(batch_id)):
        block = block.around
    return block


def _starts(runtime: Runtime, batch_id: str, connection: Connection | None) -> bool:
    """Check early that a batch can take jobs, and tell whether this may be its first block."""
    batch = _standing(runtime, batch_id, connection)
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    if batch.is_finished:
        raise BatchFinished(batch_id=batch_id, state=str(batch.state))
    if batch.state is BatchState.CANCELLED:
        raise BatchCancelled(batch_id=batch_id)
    starts = not batch.has_begun
    if connection is not None and not starts and (isolation := strict_isolation(connection)):
        raise JoinRefused(batch_id=batch_id, isolation=isolation)
    return starts


def _standing(runtime: Runtime, batch_id: str, connection: Connection | None) -> BatchStanding | None:
    database = runtime.database
    if connection is None:
        with database.reading() as own:
            return batches.standing(own, database.tables, batch_id)
    found = batches.standing(connection, database.tables, batch_id)
    # A transaction may be older than the batch: where it shows what was, a locking read shows what is.
    return found or batches.standing(connection, database.tables, batch_id, "shared")
