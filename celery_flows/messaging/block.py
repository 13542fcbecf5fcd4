"""An open `with batch.jobs():`, and what happens when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery_flows.errors import BlockMisuse, CanvasNotSupported, NotJson
from celery_flows.ids import new_id
from celery_flows.messaging.call import encode_arguments, encode_options, expiry
from celery_flows.messaging.context import innermost
from celery_flows.messaging.result import EnrolledResult, hold
from celery_flows.messaging.runtime import Runtime
from celery_flows.messaging.spool import Spool
from celery_flows.states import JobState, Kind
from celery_flows.store import jobs
from celery_flows.store.database import Connection
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.joined import after_commit
from celery_flows.transitions.enroll import NewJob, Share, enroll
from celery_flows.transitions.finalize import advance

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
        self._refusal: NotJson | CanvasNotSupported | None = None
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
        try:
            return self._capture(task, args, kwargs, options)
        except (CanvasNotSupported, NotJson) as error:
            self._refusal = error
            raise

    def check(self) -> None:
        """See that every call was taken: a refusal that the block's own code swallowed is raised again at its end.

        Raises:
            NotJson: a call was refused for what it holds.
            CanvasNotSupported: a call was refused for its shape.
        """
        if self._refusal is not None:
            raise self._refusal

    def _capture(self, task: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> EnrolledResult:
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
        around = holder(self.around, self.batch_id)
        if around is not None:
            around.absorb(self)
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


def parents_block(runtime: Runtime, parent_id: str | None) -> Block | None:
    """The open block here, if it is that of a new batch's parent: the one asked for, or whichever it is."""
    block = open_block()
    if block is None or block.runtime is not runtime:
        return None
    return block if parent_id in (None, block.batch_id) else None


def holder_of(runtime: Runtime, batch_id: str) -> Block | None:
    """The open block here with which the rows of a batch are written, or None."""
    block = holder(open_block(), batch_id)
    return block if block is not None and block.runtime is runtime else None


def holder(block: Block | None, batch_id: str) -> Block | None:
    """The nearest open block, from this one outwards, with which the rows of a batch must be written."""
    while block is not None and not (block.takes_calls and block.holds(batch_id)):
        block = block.around
    return block
