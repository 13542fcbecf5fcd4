"""Grow: the jobs of a batch each add a job to it, where a lock on its row would make them queue."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Case, Figures, at_most, beside
from benchmarks.crowd import Act, crowd
from benchmarks.rows import TOKEN, Running, call, run_jobs
from benchmarks.services import World
from celery_flows.errors import BatchNotFound
from celery_flows.ids import new_id
from celery_flows.store.database import Database
from celery_flows.transitions.enroll import Grower, Share, enroll

_CONNECTIONS: Final = 16


def _adding(database: Database) -> Act:
    def act(job: Running) -> None:
        grower = Grower(job.id, TOKEN, job.batch_id)
        chunks, shares = [[call(new_id(), job.batch_id)]], [Share(job.batch_id, 1, starts=False)]
        try:
            database.transact(enroll, database.tables, chunks, shares, grower=grower)
        except BatchNotFound:
            # The job that does not exist, by which a process makes itself ready.
            assert job.batch_id == "nobody"

    return act


def one_batch(world: World, n: int) -> Figures:
    """All to one batch."""
    return {"us per job": 1e6 * crowd(world, _CONNECTIONS, run_jobs(world, n), _adding) / n}


def many_batches(world: World, n: int) -> Figures:
    """Each to a batch of its own."""
    return {"us per job": 1e6 * crowd(world, _CONNECTIONS, run_jobs(world, n, batches=n), _adding) / n}


CASE = Case(
    name="grow",
    about=f"jobs of one batch each add a job to it, {_CONNECTIONS} connections",
    n=5_000,
    sides={"ours": one_batch, "a batch each": many_batches},
    questions=beside("us per job", a_batch_each=at_most(1.5)),
)
