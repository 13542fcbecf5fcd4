"""An open `with batch.jobs():`, and what happens when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from celery_flows.errors import BatchNotFound, BlockMisuse, InvalidSetting, NotJson, PlanInvalid, TooLong
from celery_flows.messaging.canvas import Call, Canvas
from celery_flows.messaging.catcher import NOTHING, Catcher, catch
from celery_flows.messaging.claims import grower_here
from celery_flows.messaging.context import innermost
from celery_flows.messaging.patience import committed
from celery_flows.messaging.planning import rows_of
from celery_flows.messaging.result import EnrolledResult
from celery_flows.messaging.runtime import Runtime
from celery_flows.messaging.spool import Spool
from celery_flows.plan import Plan
from celery_flows.states import JobState, Kind
from celery_flows.store import memory, publishing
from celery_flows.store.database import Connection
from celery_flows.store.joined import after_commit
from celery_flows.store.publishing import ReadyJob
from celery_flows.transitions.enroll import Nested, NewEdge, NewJob, Share, enroll
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
        self._spool = Spool(runtime.settings.chunk_size, NewJob)
        self._edges = Spool(runtime.settings.chunk_size, NewEdge)
        self._flows = Spool(runtime.settings.chunk_size, Nested)
        self._grower = grower_here(runtime)
        #: What the run's data begins with, as it is stored.
        self.data: dict[str, str] = {}
        self._inner_data: dict[str, dict[str, str]] = {}
        self._count = 0
        self._is_published = False
        # Child batches made in this block, blocks that ended in it, and the block that it ended in.
        self._children: set[str] = set()
        self._founded: set[str] = set()
        self._absorbed: list[Block] = []
        self._carrier: Block | None = None
        # What its end is put off with, and whether a call made now is.
        self._defer: Defer | None = None
        self._deferred: list[Callable[[], None]] = []
        self._refusal: Exception | None = None
        self._is_deferring = False

    @property
    def takes_calls(self) -> bool:
        """Whether a call made here and now belongs to this block."""
        return self.is_open and self._thread == threading.get_ident()

    def capture(self, task: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> EnrolledResult:
        """Keep a call for the end of the block.

        Raises:
            NotJson: an argument or option can't be stored.
            InvalidSetting: the task's own on_loss is none.
            TooLong: a name does not fit.
            PlanInvalid: the call is one of a chord that Celery counts itself.
        """
        with self._noting():
            return self._capture(task, args, kwargs, options)

    def capture_canvas(self, canvas: Any, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Any:
        """Keep a chain, group or chord for the end of the block, with all its tasks.

        Returns:
            The result that Celery gives for it.

        Raises:
            NotJson: an argument or option can't be stored.
            PlanInvalid: it is a chord without a body.
        """
        given = {key: value for key, value in options.items() if value is not None}
        call = Call(args=tuple(args or ()), kwargs=dict(kwargs or {}), options=given)
        with self._noting():
            plan = Plan()
            planned = self._canvas(plan).add(canvas, call)
            self.add_plan(plan)
            return planned.result

    def _canvas(self, plan: Plan) -> Canvas:
        return Canvas(Catcher(self.runtime, lambda: self.is_held), plan, is_strict=False)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (NotJson, PlanInvalid, InvalidSetting, TooLong) as error:
            self._refusal = error
            raise

    def check(self) -> None:
        """See that every call was taken: a refusal that the block's own code swallowed is raised again at its end.

        Raises:
            NotJson: a call was refused for what it holds.
            InvalidSetting: one was refused for what its task says.
            TooLong: one was refused for a name.
            PlanInvalid: a call was refused for its shape.
        """
        if self._refusal is not None:
            raise self._refusal

    def _capture(self, task: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> EnrolledResult:
        caught = catch(self.runtime, task, args, kwargs, options, lambda: self.is_held)
        if caught.onward == NOTHING:
            node = caught.node
            call = (node.task, node.args, node.kwargs, node.options)
            self.keep(NewJob(node.id, self.batch_id, Kind.TASK, *call, node.expires_at))
            return caught.result
        plan = Plan()
        planned = self._canvas(plan).arrange(caught, Call())
        self.add_plan(plan)
        # As Celery's: that of the call itself, whatever comes after it.
        return planned.result if caught.onward.chain else caught.result

    def adopt(self, child_id: str) -> None:
        """Keep a child batch made in this block: a row that stands for it is enrolled with the others."""
        self._children.add(child_id)
        self._add(child_row(child_id, self.batch_id))

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

    def keep(self, job: NewJob) -> None:
        """Keep a job for the end of the block, or for the commit that it is deferred to."""
        self._act(lambda: self._add(job))

    def _act(self, action: Callable[[], None]) -> None:
        if self._defer is not None and self._is_deferring:
            self._deferred.append(action)
            self._defer(action)
        else:
            action()

    def _add(self, job: NewJob) -> None:
        self._count += job.counts_in(self.batch_id)
        self._writer._spool.append(job)

    def add_plan(self, plan: Plan) -> None:
        """Keep the jobs of a plan, and which waits for which, for the end of the block or a commit."""
        self._act(lambda: self._add_plan(plan))

    def _add_plan(self, plan: Plan) -> None:
        for row in rows_of(plan, self.batch_id, self.runtime.settings.callback_queue):
            if isinstance(row, NewEdge):
                self._writer._edges.append(row)
            elif isinstance(row, Nested):
                self._writer._flows.append(row)
            else:
                self._add(row)

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
        """Enroll everything, in the transaction that a call waits for, if one does, or at its commit."""
        if self._defer is None:
            self.commit()
        elif (due := self.runtime.database.take_back(self._deferred)) is None:
            self._defer(self.commit)
        else:
            for action in due:
                action()
            self.commit()

    def abort(self, error: BaseException) -> None:
        """End with an error: nothing is enrolled."""
        self.is_open = False
        self._clear()

    def _clear(self) -> None:
        for spool in (self._spool, self._edges, self._flows):
            spool.clear()

    def holds(self, batch_id: str) -> bool:
        """Whether a batch is this block's, or was made in it: their rows must be written together."""
        return batch_id == self.batch_id or batch_id in self._children

    def founds(self, batch_id: str) -> bool:
        """Whether a batch is a flow whose own row is yet to be written with this block."""
        return batch_id in self._founded

    def absorb(self, inner: Block) -> None:
        """Take over what a block inside has collected."""
        self._spool.extend(inner._spool)
        self._edges.extend(inner._edges)
        self._flows.extend(inner._flows)
        inner._clear()
        inner._carrier = self
        self._inner_data |= {inner.batch_id: inner.data, **inner._inner_data}
        self._absorbed.append(inner)
        self._children |= inner._children
        self._founded |= inner._founded
        self._defer = self._defer or inner._defer
        self._deferred += inner._deferred

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
            self._write(self.connection)
            after_commit(self.connection, self._publish_joined)
            return
        if len(self._spool) or any(share.starts for share in self.shares):
            database.transact(self._write)
        self._publish(ready_jobs(self._spool))

    def _write(self, connection: Connection) -> None:
        tables = self.runtime.database.tables
        enroll(
            connection,
            tables,
            self._spool,
            self.shares,
            waits=self._edges,
            flows=self._flows,
            grower=self._grower,
        )
        for batch_id, data in {self.batch_id: self.data, **self._inner_data}.items():
            if data:
                memory.write(connection, tables, memory.run_of(connection, tables, batch_id), data)

    def _publish(self, ready: Iterable[ReadyJob]) -> None:
        # Inside a framework's transaction nothing is committed yet: an error is the caller's.
        is_joined = self.runtime.database.is_joined
        what = f"What was enrolled for batch {self.batch_id}"
        with nullcontext() if is_joined else committed(self.runtime, what):
            self.runtime.publisher.publish(self._publishing(ready))
            # A block without jobs ends its batch, as nothing else will.
            for share in self.shares:
                if share.starts and not share.jobs:
                    self.runtime.publisher.publish(advance(self.runtime.database, share.batch_id))
        # Where it waits for the commit of a framework's transaction, the jobs are read then.
        if not is_joined:
            self._clear()

    def _publishing(self, ready: Iterable[ReadyJob]) -> Iterator[ReadyJob]:
        self._is_published = True
        try:
            yield from ready
        finally:
            self._clear()

    def _publish_joined(self) -> None:
        # What is there now: the rows of a savepoint that was rolled back are not.
        self._publish(job for chunk in self._spool for job in self._committed(chunk))

    def _committed(self, chunk: list[NewJob]) -> list[ReadyJob]:
        database = self.runtime.database
        with database.reading() as connection:
            ids = [job.id for job in chunk if job.is_published]
            return publishing.ready_among(connection, database.tables, ids)


def child_row(child_id: str, batch_id: str) -> NewJob:
    """What stands for a child batch in its parent."""
    return NewJob(child_id, batch_id, Kind.BATCH, "", "[]", "{}", "{}")


def ready_jobs(chunks: Iterable[list[NewJob]]) -> Iterator[ReadyJob]:
    """The calls among newly enrolled jobs, as their first publisher needs them."""
    for chunk in chunks:
        for job in chunk:
            if job.is_published:
                call = (job.task, job.args, job.kwargs, job.options)
                yield ReadyJob(
                    job.id, job.batch_id, None, job.kind, JobState.READY, *call, 1, job.keeps, job.blocks
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


@contextmanager
def being_there(runtime: Runtime, batch_id: str) -> Iterator[None]:
    """Where a batch is not found, as it is yet to be written with a block that is open here, say that instead.

    Raises:
        BlockMisuse: it is so.
    """
    try:
        yield
    except BatchNotFound:
        if holder_of(runtime, batch_id) is None:
            raise
        raise BlockMisuse(
            problem=f"Batch {batch_id} was started in a block that is open here, and is written when that ends: "
            "use it after the block."
        ) from None


def holder(block: Block | None, batch_id: str) -> Block | None:
    """The nearest open block, from this one outwards, with which the rows of a batch must be written."""
    while block is not None and not (block.takes_calls and block.holds(batch_id)):
        block = block.around
    return block
