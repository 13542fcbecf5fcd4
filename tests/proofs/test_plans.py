"""Any flow that can be drawn runs as it is planned: what runs, what is skipped, and in which order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from apps import rows
from graphs import BATCH, adds, ends, grows, plan_of, planning_ends, start, takes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from proofs.exhaustive import EXHAUSTIVE
from proofs.reference import Drawn, Graph, expect, flows, is_join
from proofs.world import Died, Mortal

from celery_flows.plan import FlowCall, Plan
from celery_flows.queries.progress import progress
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store.database import Database
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.recover import recover_batches, release_left, take_overdue

#: A job whose worker died runs again, however often.
AGAIN = LossPolicy("retry", 10**6)


def planned(drawn: Drawn) -> Plan:
    """The plan of a flow."""
    calls = {
        call.name: FlowCall("shop.Inner", "workflow", "shop.plan", tolerate=str(call.inside.tolerate))
        for call in drawn.calls
        if call.inside is not None
    }
    plan = plan_of(" ".join(call.name for call in drawn.calls), flows=calls)
    for before, after, condition in drawn.groups:
        plan.connect(before, after, condition)
    return plan


class Run:
    """A flow that runs, worked off by one hand in any order, whose process may die at any commit."""

    def __init__(self, database: Mortal, drawn: Drawn, dice: random.Random, dies: float) -> None:
        self.database, self.drawn, self._dice, self._dies = database, drawn, dice, dies
        self._calls = {call.name: call for call in drawn.every()}
        self._inside = {name: call.inside for name, call in self._calls.items() if call.inside is not None}
        self.graphs = {BATCH: Graph.of(drawn)}
        self.outcomes = {name: call.outcome for name, call in self._calls.items()}
        #: When each job began and ended for the last time, by a clock that counts steps.
        self.began: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self._clock = self._grown = 0

    def to_the_end(self) -> None:
        """Run whatever is ready until nothing is."""
        start(self.database, planned(self.drawn), tolerate=str(self.drawn.tolerate))
        self._note_ends()
        while ready := rows(self.database, state=JobState.READY):
            job = self._dice.choice(ready)
            self.began.setdefault(job.batch_id if job.kind == Kind.PLAN else job.id, self._clock)
            takes(self.database, job.id)
            if self._plays(job):
                self._note_ends()
                continue
            # Its process is dead, and the sweep comes by.
            lose(self.database, job.id, f"token-{job.id}", AGAIN, "it died")
            sweep(self.database)
            self._note_ends()

    def _plays(self, job: Any) -> bool:
        # A process that adds jobs and dies before it settles adds them again: that is another flow.
        if job.kind == Kind.TASK:
            self._add(job)
        self.database.left = self._dice.randrange(6) if self._dice.random() < self._dies else None
        try:
            if job.kind == Kind.PLAN:
                self._plan(job)
            else:
                ends(self.database, job.id, self.outcomes[job.id])
        except Died:
            return False
        finally:
            self.database.left = None
        return True

    def _plan(self, job: Any) -> None:
        inside = self._inside[job.batch_id]
        if inside.is_broken:
            ends(self.database, job.id, JobState.FAILED)
            return
        self.graphs[job.batch_id] = Graph.of(inside)
        planning_ends(self.database, job.id, planned(inside))

    def _add(self, job: Any) -> None:
        call = self._calls.get(job.id)
        if call is None or job.attempt > 0:
            return
        graph = self.graphs[job.batch_id]
        for _ in range(call.grows):
            name = self._name()
            grows(self.database, job.id, name, job.batch_id)
            graph.add(name, job.id)
        if call.adds is not None:
            numbers, condition = call.adds
            known = graph.jobs
            after = sorted({known[number % len(known)] for number in numbers})
            name = self._name()
            adds(self.database, job.id, name, after, condition, batch=job.batch_id)
            graph.add(name, job.id, dict.fromkeys(after, condition))

    def _name(self) -> str:
        self._grown += 1
        name = f"x{self._grown}"
        self.outcomes[name] = self._dice.choice([JobState.COMPLETE, JobState.COMPLETE, JobState.FAILED])
        return name

    def _note_ends(self) -> None:
        self._clock += 1
        for job in rows(self.database):
            if job.outcome is not None:
                self.ended.setdefault(job.id, self._clock)

    # ------------------------------------------------------------ what must have come of it

    def check(self) -> None:
        """Hold what became of it against the reference."""
        database = self.database
        expected = expect(self.drawn, BATCH, self.graphs, self.outcomes)
        found = {job.id: job.state for job in rows(database) if job.kind in (Kind.TASK, Kind.BATCH)}
        assert found == {name: state for name, state in expected.states.items() if not is_join(name)}
        fates = {batch: BatchState(state) for batch, state in expected.fates.items()}
        with database.reading() as connection:
            batches = connection.execute(database.tables.batches.select()).all()
        assert {batch.id: batch.state for batch in batches if batch.started_at is not None} == fates
        for batch in batches:
            assert batch.settled_at is not None, f"{batch.id} is not finished"
            counted = progress(database, batch.id)
            assert counted.total == counted.complete + counted.failed + counted.cancelled + counted.pending
            assert counted.pending == 0
        assert [job.id for job in rows(database) if job.releasing_since is not None] == []
        self._check_order()

    def _check_order(self) -> None:
        for graph in self.graphs.values():
            for job in set(graph.jobs) & self.began.keys():
                early = [one for one in graph.before(job) if self.ended[one] > self.began[job]]
                assert early == [], f"{job} began before {early} had ended"


def sweep(database: Database) -> None:
    """A pass of the sweep, as if it had been a long time."""
    release_left(database, 0)
    recover_batches(database)
    take_overdue(database, 0, 100)


def empty(database: Database) -> None:
    """Leave no row."""
    with database.engine.begin() as connection:
        for table in database.tables.metadata.sorted_tables:
            connection.execute(table.delete())


#: How many flows, in `make test` and in `make exhaustive`.
EXAMPLES = {"sqlite": (100, 5000), "postgresql": (15, 1000), "mariadb": (15, 1000)}


@pytest.mark.timeout(3600 if EXHAUSTIVE else 120)
@pytest.mark.parametrize("dies", [0.0, 0.4], ids=["calm", "deadly"])
def test_any_flow_runs_as_it_is_planned(database: Database, database_kind: str, dies: float) -> None:
    """The same jobs run and are skipped as on paper, each after what it waits for, and everything ends.

    Deadly: whose worker is killed between any two commits, and taken over by the sweep.
    """
    mortal = Mortal(database.url)

    @settings(
        derandomize=not EXHAUSTIVE,
        print_blob=True,
        database=None,
        deadline=None,
        max_examples=EXAMPLES[database_kind][EXHAUSTIVE],
        phases=[Phase.generate, *([Phase.shrink] if EXHAUSTIVE else [])],
        suppress_health_check=list(HealthCheck),
    )
    @given(flows(), st.integers(0, 2**32))
    def play(drawn: Drawn, seed: int) -> None:
        empty(mortal)
        run = Run(mortal, drawn, random.Random(seed), dies)
        run.to_the_end()
        run.check()

    try:
        play()
    finally:
        mortal.close()
