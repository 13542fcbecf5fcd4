"""An open `with batch.jobs(streaming=True):`, which enrolls and publishes as it goes."""

from __future__ import annotations

from celery_flows.errors import BlockMisuse
from celery_flows.messaging.block import Block, child_row
from celery_flows.messaging.lease import Lease
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import Plan
from celery_flows.store.database import Connection
from celery_flows.transitions.enroll import NewJob
from celery_flows.transitions.stream import abandon_stream, check_stream, close_stream, open_stream


class StreamingBlock(Block):
    """Enrolls and publishes chunk by chunk, behind a row that keeps the batch unfinished."""

    def __init__(self, runtime: Runtime, batch_id: str, *, starts: bool) -> None:
        super().__init__(runtime, batch_id, None, starts=False)
        self._is_planning = False
        self._lease = Lease(runtime.settings, runtime.new_database(check=False))
        self._lease.start()
        self._block_id = self._lease.id
        # The rows of children made here whose own blocks have not begun.
        self._unbegun: dict[str, NewJob] = {}
        database = runtime.database
        try:
            database.transact(open_stream, database.tables, self._block_id, batch_id, starts=starts)
        except BaseException:
            self._lease.stop()
            raise

    def _add(self, job: NewJob) -> None:
        super()._add(job)
        if not self._is_planning:
            self._flush_if_full()

    def _add_plan(self, plan: Plan) -> None:
        # In one transaction: a job might end before those are there that wait for it.
        self._is_planning = True
        try:
            super()._add_plan(plan)
        finally:
            self._is_planning = False
        self._flush_if_full()

    def _flush_if_full(self) -> None:
        is_full = len(self._spool) >= self.runtime.settings.chunk_size
        # A transaction that stands inside the block is not to decide about calls made before it.
        if self.is_open and is_full and not self.runtime.database.is_joined:
            self.flush()

    def adopt(self, child_id: str) -> None:
        """Keep a child's row until its own block begins.

        Written before, it would hold up the batch for ever if this producer died before the child's jobs.
        """
        self._children.add(child_id)
        self._unbegun[child_id] = child_row(child_id, self.batch_id)

    def flush(self, *children: str) -> None:
        """Enroll and publish what has been collected, with the rows of these children."""
        for child_id in children:
            super()._add(self._unbegun.pop(child_id))
        self.commit()
        self._count = 0

    def _write(self, connection: Connection) -> None:
        super()._write(connection)
        check_stream(connection, self.runtime.database.tables, self._block_id, self.batch_id)

    def begin(self, child_id: str) -> None:
        """Write what has been collected, and the row of a child whose own block begins."""
        self.flush(*self._unbegun.keys() & {child_id})

    def absorb(self, inner: Block) -> None:
        """Write a child's jobs together with its row; where they wait for a commit, the row first."""
        if inner.batch_id not in self._unbegun or inner._defer is not None:
            self.begin(inner.batch_id)
            inner.end()
            return
        self.flush()
        super().absorb(inner)
        row = self._unbegun[inner.batch_id]
        try:
            self.flush(inner.batch_id)
        except BaseException:
            # The program may go on without them.
            self._spool.clear()
            self._count, self._unbegun[row.id] = 0, row
            raise
        finally:
            self._absorbed.clear()

    def close(self) -> None:
        """End: publish the rest and take the block's row away."""
        try:
            self.is_open = False
            if self._commit_is_ahead() or self.runtime.database.is_joined:
                raise BlockMisuse(
                    problem="A streaming block publishes as it goes, so it can't end before the transaction "
                    "that delay_on_commit waits for, or that stands around its end. Open the transaction inside "
                    "the block."
                )
            self.flush(*self._unbegun)
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
