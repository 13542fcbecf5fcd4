"""Failures: every job of a batch goes wrong, and each one has to be counted."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Case, Figures, Of, Question, at_most
from benchmarks.crowd import Act, crowd
from benchmarks.rows import TOKEN, run_jobs
from benchmarks.services import World
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.settle import settle

_CONNECTIONS: Final = 16
_FIGURE: Final = "us per job"
#: What "linear" means: a job of a batch costs what one of a batch a quarter as large costs.
_LINEAR: Final = 1.2


def _failing(database: Database) -> Act:
    return lambda job: settle(
        database,
        Ending(job.id, JobState.FAILED, "ValueError", "broken", delivery=1, token=TOKEN),
        batch_id=job.batch_id,
    )


def _succeeding(database: Database) -> Act:
    return lambda job: settle(
        database, Ending(job.id, JobState.COMPLETE, delivery=1, token=TOKEN), batch_id=job.batch_id
    )


def failed(world: World, n: int) -> Figures:
    """All fail; from half of them on, more than is tolerated."""
    return {_FIGURE: 1e6 * crowd(world, _CONNECTIONS, run_jobs(world, n, tolerate="50%"), _failing) / n}


def complete(world: World, n: int) -> Figures:
    """The same jobs, and none fails."""
    return {_FIGURE: 1e6 * crowd(world, _CONNECTIONS, run_jobs(world, n, tolerate="50%"), _succeeding) / n}


CASE = Case(
    name="failures",
    about=f'jobs that all fail, tolerate="50%", settled by {_CONNECTIONS} connections',
    n=20_000,
    sides={
        "ours": failed,
        "succeeding": complete,
        "a quarter as many": lambda world, n: failed(world, max(1, n // 4)),
    },
    questions=[
        Question(Of("ours", _FIGURE), Of("succeeding", _FIGURE), at_most(1.5)),
        Question(Of("ours", _FIGURE), Of("a quarter as many", _FIGURE), at_most(_LINEAR)),
    ],
)
