"""Opening a block and closing it: the `with` statement itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery_flows.errors import BatchCancelled, BatchFinished, BatchNotFound, BlockMisuse, JoinRefused
from celery_flows.messaging import eager
from celery_flows.messaging.block import Block, holder, open_block
from celery_flows.messaging.context import within
from celery_flows.messaging.runtime import Runtime
from celery_flows.messaging.streaming import StreamingBlock
from celery_flows.states import BatchState
from celery_flows.store import batches
from celery_flows.store.batches import BatchStanding
from celery_flows.store.database import Connection
from celery_flows.store.joined import Joinable, strict_isolation


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
            block.check()
        except BaseException as error:
            block.abort(error)
            raise
        else:
            block.close()


def _open(runtime: Runtime, batch_id: str, *, streaming: bool, joined: Joinable | None) -> Block:
    outer = holder(open_block(), batch_id)
    connection = None if joined is None else runtime.joined(joined)
    if outer is not None:
        connection = outer.connection_for(connection)
    with runtime.database.joined() as frameworks:
        starts = _starts(runtime, batch_id, frameworks if connection is None else connection)
    if not streaming:
        return Block(runtime, batch_id, connection, starts=starts)
    if connection is not None or runtime.database.is_joined:
        raise BlockMisuse(problem="A streaming block commits as it goes, so it can't join a transaction.")
    if outer is not None and not isinstance(outer, StreamingBlock):
        raise BlockMisuse(
            problem="A streaming block can't stand inside the ordinary block of its batch or of its batch's "
            "parent, whose rows are not written yet. Make that one streaming too, or open this one after it."
        )
    if outer is not None:
        outer.begin(batch_id)
    return StreamingBlock(runtime, batch_id, starts=starts)


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
    if starts and batch.is_flow:
        # With a block it would begin before its turn.
        raise BlockMisuse(
            problem=f"Batch {batch_id} is a flow inside another, and its turn has not come: it is planned by "
            "itself then. To have more jobs in it, let one of its own jobs add them."
        )
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
