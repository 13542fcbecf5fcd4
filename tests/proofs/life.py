"""A life of some batches, as a state machine: what may happen at any moment, and what must hold after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from proofs.watch import Watch
from proofs.world import LEASE, PAUSE, STEADY, Held, Mortal, World, in_a_while
from scenes import call

from celery_flows.errors import BatchCancelled, BatchFinished, BatchUnfinished, EnrolmentAbandoned
from celery_flows.states import BatchState, Event, JobState, Kind
from celery_flows.store import batches
from celery_flows.store.batches import BatchStanding
from celery_flows.store.bulk import NewJob
from celery_flows.store.database import Connection
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.create import NewBatch, adopt, create
from celery_flows.transitions.enroll import Share, enroll
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.lease import renew
from celery_flows.transitions.listen import NewCallback, listen
from celery_flows.transitions.reopen import Mode
from celery_flows.transitions.requeue import requeue
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.stream import abandon_stream, check_stream, close_stream, open_stream

T = TypeVar("T")

MAX_BATCHES, MAX_JOBS = 4, 12

#: After how many commits and messages the process dies that does something; mostly it lives.
DEATHS = st.none() | st.none() | st.integers(0, 6)
#: Which of several.
PICKS = st.integers(0, 11)
ENDS = st.sampled_from([JobState.COMPLETE, JobState.COMPLETE, JobState.FAILED])


def ready(jobs: Iterable[NewJob]) -> Iterator[ReadyJob]:
    """Calls just enrolled, as their publisher takes them."""
    for job in jobs:
        if job.is_published:
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
                job.keeps,
                job.blocks,
            )


class Life(RuleBasedStateMachine):
    """Batches, nested or not, from their creation to their end, in a world where anybody may die."""

    def __init__(self, database: Mortal) -> None:
        super().__init__()
        self.database, self.tables = database, database.tables
        with database.engine.begin() as connection:
            for table in self.tables.metadata.sorted_tables:
                connection.execute(table.delete())
        self.world = World(database)
        self.watch = Watch(self.world)
        self.batches: list[str] = []
        self.made = self.jobs = self.callbacks = 0

    # ------------------------------------------------------------ what users do

    @initialize(tolerate=st.sampled_from(["0", "1", "50%"]), events=st.sets(st.sampled_from(list(Event))))
    def begin(self, tolerate: str, events: set[Event]) -> None:
        self.world.begin()
        self.create(tolerate, None, None)
        for event in sorted(events):
            self.listen(0, event)

    @precondition(lambda self: len(self.batches) < MAX_BATCHES)
    @rule(
        tolerate=st.sampled_from(["0", "1", "50%"]),
        parent=st.none() | PICKS,
        on_loss=st.sampled_from([None, "retry"]),
    )
    def create(self, tolerate: str, parent: int | None, on_loss: str | None) -> None:
        batch_id = self.new_batch_id()
        parent_id = None if parent is None else self.pick(self.batches, parent)
        batch = NewBatch(batch_id, "batch", None, "null", "[]", tolerate, parent_id, on_loss)

        def write(connection: Connection, tables: Tables) -> None:
            create(connection, tables, batch)
            if parent_id is not None:
                adopt(connection, tables, parent_id, batch_id)

        with self.refused_only_where(parent_id):
            self.database.transact(write, self.tables)
            self.batches.append(batch_id)

    @rule(number=PICKS, event=st.sampled_from(list(Event)))
    def listen(self, number: int, event: Event) -> None:
        batch_id = self.pick(self.batches, number)
        self.callbacks += 1
        callback = NewCallback(f"c{self.callbacks}", batch_id, event, "shop.tell", "[]", "{}", "{}")
        with self.refused_only_where(batch_id, may_be_cancelled=True):
            self.world.does(lambda: self.database.transact(listen, self.tables, callback))

    @precondition(lambda self: self.jobs < MAX_JOBS)
    @rule(number=PICKS, jobs=st.integers(0, 2), expires=st.booleans(), dies=DEATHS)
    def enroll(self, number: int, jobs: int, expires: bool, dies: int | None) -> None:
        batch_id = self.pick(self.batches, number)
        calls = self.calls(batch_id, jobs, expires)
        starts = not self.standing(batch_id).has_begun

        def block() -> Iterator[ReadyJob]:
            self.database.transact(enroll, self.tables, [calls] if calls else [], [Share(batch_id, jobs, starts)])
            yield from ready(calls)
            if starts and not jobs:
                yield from advance(self.database, batch_id)

        # An empty block of a batch that has begun changes nothing, wherever that stands.
        with self.refused_only_where(batch_id if jobs or starts else None):
            self.world.does(block, dies)

    @precondition(lambda self: len(self.batches) < MAX_BATCHES and self.jobs < MAX_JOBS)
    @rule(number=PICKS, jobs=st.integers(0, 2), dies=DEATHS)
    def create_and_enroll_in_a_block(self, number: int, jobs: int, dies: int | None) -> None:
        parent_id, child_id = self.pick(self.batches, number), self.new_batch_id()
        starts = not self.standing(parent_id).has_begun
        child = NewBatch(child_id, "batch", None, "null", "[]", "0", parent_id)
        calls = [NewJob(child_id, parent_id, Kind.BATCH, "", "[]", "{}", "{}"), *self.calls(child_id, jobs)]
        shares = [Share(child_id, jobs, True), Share(parent_id, 1, starts)]

        def block() -> Iterator[ReadyJob]:
            self.database.transact(create, self.tables, child)
            self.database.transact(enroll, self.tables, [calls], shares)
            self.batches.append(child_id)
            yield from ready(calls)
            if not jobs:
                yield from advance(self.database, child_id)

        with self.refused_only_where(parent_id):
            self.world.does(block, dies)

    @rule(number=PICKS, dies=DEATHS)
    def cancel(self, number: int, dies: int | None) -> None:
        batch_id = self.pick(self.batches, number)
        self.world.does(lambda: cancel(self.database, batch_id).ready, dies)

    @rule(number=PICKS, mode=st.sampled_from(list(Mode)), dies=DEATHS)
    def reopen(self, number: int, mode: Mode, dies: int | None) -> None:
        batch_id = self.pick(self.batches, number)
        is_finished = self.standing(batch_id).is_finished
        try:
            self.world.reopens(batch_id, mode, dies)
        except BatchUnfinished:
            assert not is_finished

    # ------------------------------------------------------------ streaming blocks

    @precondition(lambda self: len(self.world.blocks) < 3)
    @rule(number=PICKS)
    def open_block(self, number: int) -> None:
        batch_id, block_id = self.pick(self.batches, number), f"s{len(self.world.blocks)}"
        starts = not self.standing(batch_id).has_begun
        renew(self.database, block_id, "host", 1, LEASE)
        with self.refused_only_where(batch_id):
            self.database.transact(open_stream, self.tables, block_id, batch_id, starts=starts)
            self.world.blocks[block_id] = (batch_id, True)

    @precondition(lambda self: self.producers() and self.jobs < MAX_JOBS)
    @rule(number=PICKS, jobs=st.integers(1, 2), dies=DEATHS)
    def flush_block(self, number: int, jobs: int, dies: int | None) -> None:
        block_id = self.pick(self.producers(), number)
        batch_id, _ = self.world.blocks[block_id]
        calls = self.calls(batch_id, jobs)

        def write(connection: Connection, tables: Tables) -> None:
            enroll(connection, tables, [calls], [Share(batch_id, jobs, False)])
            check_stream(connection, tables, block_id, batch_id)

        def chunk() -> Iterator[ReadyJob]:
            self.database.transact(write, self.tables)
            yield from ready(calls)

        try:
            with self.refused_only_where(batch_id):
                lived = self.world.does(chunk, dies)
                self.world.blocks[block_id] = (batch_id, lived)
        except EnrolmentAbandoned:
            self.world.blocks[block_id] = (batch_id, False)

    @precondition(lambda self: self.producers())
    @rule(number=PICKS, raises=st.booleans(), dies=DEATHS)
    def end_block(self, number: int, raises: bool, dies: int | None) -> None:
        block_id = self.pick(self.producers(), number)
        batch_id, _ = self.world.blocks[block_id]
        self.world.blocks[block_id] = (batch_id, False)
        try:
            if raises:
                self.world.does(lambda: abandon_stream(self.database, block_id, batch_id, "it raised"), dies)
            else:
                self.world.does(lambda: close_stream(self.database, block_id, batch_id), dies)
        except EnrolmentAbandoned:
            pass

    @precondition(lambda self: self.producers())
    @rule(number=PICKS)
    def producer_dies(self, number: int) -> None:
        block_id = self.pick(self.producers(), number)
        self.world.blocks[block_id] = (self.world.blocks[block_id][0], False)

    # ------------------------------------------------------------ broker and workers

    @precondition(lambda self: self.world.broker)
    @rule(message=PICKS, worker=PICKS, again=st.sampled_from([False, False, True]))
    def deliver(self, message: int, worker: int, again: bool) -> None:
        job = self.pick(self.messages(), message)
        if not again:
            self.world.broker.remove(job)
        self.world.takes(self.pick(self.world.workers, worker), job)

    @precondition(lambda self: self.world.broker)
    @rule(message=PICKS, worker=PICKS)
    def prefetch(self, message: int, worker: int) -> None:
        job = self.pick(self.messages(), message)
        self.world.broker.remove(job)
        self.world.prefetches(self.pick(self.world.workers, worker), job)

    @precondition(lambda self: any(self.world.prefetched.values()))
    @rule(number=PICKS)
    def take_from_memory(self, number: int) -> None:
        worker = self.pick((worker for worker, jobs in self.world.prefetched.items() if jobs), number)
        self.world.takes(worker, self.world.prefetched[worker].pop(0))

    @precondition(lambda self: self.world.broker)
    @rule(message=PICKS)
    def vanish(self, message: int) -> None:
        self.world.broker.remove(self.pick(self.messages(), message))

    @precondition(lambda self: self.world.held)
    @rule(number=PICKS, outcome=ENDS, dies=DEATHS)
    def report(self, number: int, outcome: JobState, dies: int | None) -> None:
        held = self.pick(self.world.held.values(), number)
        self.watch.late = held.job.id
        self.world.reports(held, outcome, dies)

    @precondition(lambda self: self.unreported())
    @rule(number=PICKS, dies=DEATHS, state=st.sampled_from([JobState.RETRYING, JobState.READY]))
    def retry(self, number: int, dies: int | None, state: JobState) -> None:
        held = self.pick(self.unreported(), number)
        job = held.job
        attempt = NextAttempt(job.id, job.delivery, held.token, job.task, "[2]", "{}", "{}", state)
        lived = self.world.does(lambda: retry_job(self.database, attempt), dies)
        if not lived:
            self.world.falls_silent(held.worker)
        del self.world.held[held.token]

    @precondition(lambda self: self.unreported())
    @rule(number=PICKS, dies=DEATHS)
    def put_back(self, number: int, dies: int | None) -> None:
        held = self.pick(self.unreported(), number)
        job = held.job
        claimed = (job.id, job.delivery, held.token)
        lived = self.world.does(lambda: requeue(self.database, *claimed, batch_id=job.batch_id), dies)
        if not lived:
            self.world.falls_silent(held.worker)
        # The message was not acknowledged, so the broker brings it again in either case.
        self.world.broker.append(job)
        del self.world.held[held.token]

    @rule(number=PICKS)
    def worker_falls_silent(self, number: int) -> None:
        self.world.falls_silent(self.pick(self.world.workers, number))

    @rule(number=PICKS, forgets=st.booleans())
    def worker_comes_back(self, number: int, forgets: bool) -> None:
        worker = self.pick(self.world.workers, number)
        if forgets and worker != STEADY:
            # A child died, and the main process does not know its job any more.
            self.world.held = {token: held for token, held in self.world.held.items() if held.worker != worker}
        self.world.comes_back(worker)

    # ------------------------------------------------------------ time

    @rule(times=st.integers(1, 4))
    def time_passes(self, times: int) -> None:
        for _ in range(times):
            self.world.pass_time()

    @rule()
    def nobody_is_there_for_long(self) -> None:
        self.world.pass_time(PAUSE)

    @rule(dies=DEATHS)
    def sweep(self, dies: int | None) -> None:
        self.world.sweep(dies)

    # ------------------------------------------------------------ what holds

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.watch.look()
        self.watch.late = None

    def teardown(self) -> None:
        """What holds a batch is named, and a few sweeps later everything is over."""
        self.watch.explanations()
        self.world.calm_down(self.batches)
        self.watch.end()

    # ------------------------------------------------------------ helpers

    @contextmanager
    def refused_only_where(self, batch_id: str | None, *, may_be_cancelled: bool = False) -> Iterator[None]:
        """Expect a refusal exactly where the batch is finished or cancelled."""
        batch = None if batch_id is None else self.standing(batch_id)
        self.world.lived = True
        try:
            yield
        except (BatchFinished, BatchCancelled):
            assert batch is not None
            assert batch.is_finished or batch.state is BatchState.CANCELLED
        else:
            if batch is None or not self.world.lived:
                return
            assert not batch.is_finished
            assert may_be_cancelled or batch.state is not BatchState.CANCELLED

    def standing(self, batch_id: str) -> BatchStanding:
        with self.database.reading() as connection:
            batch = batches.standing(connection, self.tables, batch_id)
        assert batch is not None
        return batch

    def new_batch_id(self) -> str:
        self.made += 1
        return f"b{self.made}"

    def calls(self, batch_id: str, number: int, expires: bool = False) -> list[NewJob]:
        first, self.jobs = self.jobs, self.jobs + number
        at = in_a_while() if expires else None
        return [call(batch_id, f"j{one:02}", expires_at=at) for one in range(first, first + number)]

    def messages(self) -> list[ReadyJob]:
        # In an order that does not hang on which of two moments came first.
        return sorted(self.world.broker, key=lambda job: (job.id, job.delivery))

    def producers(self) -> list[str]:
        return [block for block, (_, lives) in self.world.blocks.items() if lives]

    def unreported(self) -> list[Held]:
        return [held for held in self.world.held.values() if held.outcome is None]

    @staticmethod
    def pick(things: Iterable[T], number: int) -> T:
        """One of several."""
        found = list(things)
        return found[number % len(found)]
