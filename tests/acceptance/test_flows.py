"""Flows of each kind in real workers, on both brokers: nothing starts before its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from acceptance.flowing import Graph, Slices, Steps, Whole
from acceptance.running import PATIENCE, Project, wait_for
from sqlalchemy import select

from celery_flows import Batch

#: A pool of workers, a broker and a database each.
PLACES = {"prefork": ("redis", "postgresql"), "threads": ("rabbitmq", "mariadb")}


@pytest.fixture(scope="module", params=PLACES)
def project(request: pytest.FixtureRequest, make_project: Callable[..., Project]) -> Iterator[Project]:
    """A project whose worker runs two jobs at a time."""
    project = make_project(*PLACES[request.param])
    with project.worker(request.param, 2):
        yield project


def finished(project: Project, flow: Any, *args: Any, **kwargs: Any) -> Any:
    """Start a flow, and wait until it and all of its callbacks are done."""
    run = flow.using(app=project.app).start(*args, **kwargs)
    run.wait(PATIENCE)
    project.announced(run)
    return run


def words(project: Project, run: Batch) -> list[str]:
    """What the jobs of a run noted, in the order in which they began."""
    notes = sorted(project.seen("ran"), key=lambda note: note[2])
    mine = {row.id for row in rows(project, [run.id])}
    return [word for job_id, word, *_ in notes if job_id in mine]


def rows(project: Project, batch_ids: list[str]) -> list[Any]:
    """The jobs of batches."""
    jobs = project.tables.jobs
    with project.runtime.database.reading() as connection:
        return list(connection.execute(jobs.select().where(jobs.c.batch_id.in_(batch_ids)).order_by(jobs.c.id)))


def tree(run: Batch) -> list[str]:
    """The ids of a batch and of all below it."""
    batches = run._runtime.database.tables.batches
    found, waiting = [run.id], [run.id]
    while waiting:
        with run._runtime.database.reading() as connection:
            waiting = list(connection.scalars(select(batches.c.id).where(batches.c.parent_id.in_(waiting))))
        found += waiting
    return found


def check_order(project: Project, run: Batch) -> int:
    """See that each job began after what it waits for had ended; return how many pairs were compared.

    By the database's clock the claim comes after the outcome that it waited for, and by the machine's clock
    one body begins after the other's end. Of a flow inside, that holds for each of its jobs.
    """
    every = {row.id: row for row in rows(project, tree(run))}
    notes = {job_id: (began, ended) for job_id, _, began, ended in project.seen("ran")}
    edges, compared = project.tables.edges, 0
    with project.runtime.database.reading() as connection:
        found = connection.execute(edges.select().where(edges.c.job_id.in_(every))).all()
    for edge in found:
        before, after = every[edge.job_id], every[edge.dependent_id]
        if after.started_at is not None:
            assert before.ended_at <= after.started_at
        for one in leaves(before, every):
            for other in leaves(after, every):
                if one in notes and other in notes:
                    assert notes[one][1] <= notes[other][0], (every[one], every[other])
                    compared += 1
    return compared


def leaves(row: Any, every: dict[str, Any]) -> list[str]:
    """A job, or all jobs below it where it stands for a batch."""
    below = [leaf for one in every.values() if one.batch_id == row.id for leaf in leaves(one, every)]
    return below or [row.id]


def test_a_sequence(project: Project) -> None:
    """Steps in their order; the data is that of the attempts that succeeded, and of the handler."""
    run = finished(project, Steps, name="Joel")
    assert (run.status, run.current_step) == ("complete", None)
    assert words(project, run) == ["create", "count", "last"]
    assert dict(run.data) == {"count": 1, "done": "complete", "name": "Joel"}
    assert isinstance(Batch.get(run.id, app=project.app), Steps)


def test_a_batching_task(project: Project) -> None:
    """Split in a worker, each slice runs once."""
    run = Slices.using(app=project.app).delay(30)
    assert run.wait(PATIENCE) == "complete"
    assert sorted(words(project, run)) == sorted(f"slice {part}" for part in range(30))


def test_a_workflow(project: Project) -> None:
    """Many before many, with results, and a branch that was not needed."""
    run = finished(project, Graph, 4)
    assert (run.status, run.progress.cancelled) == ("complete", 1)
    assert words(project, run)[0] == "top"
    assert words(project, run)[5:] == ["side 0+side 1"] * 3 + ["end"]
    assert check_order(project, run) == 4 + 3


def test_no_job_starts_before_what_it_waits_for_has_committed(project: Project) -> None:
    """Three levels of flows of each kind, growing while they run: every pair that waits is in order."""
    run = finished(project, Whole, 2)
    assert run.status == "complete", run.explain()
    total = run.total_progress
    # A level has 5 calls of its own and 3 added, 3 slices, and 9 of the graph, of which one is not needed.
    assert dict(total) == {"total": 60, "complete": 57, "failed": 0, "cancelled": 3, "pending": 0}
    assert len({job_id for job_id, *_ in project.seen("ran")} & {row.id for row in rows(project, tree(run))}) == 57
    assert check_order(project, run) > 100


def test_a_failure_below_stops_what_waits_and_a_retry_goes_on(project: Project) -> None:
    """The deepest level fails, and with it all above; once retried at the top all of it completes, in order."""
    run = finished(project, Whole, 1, breaks=True)
    assert run.status == "failed"
    before = words(project, run)
    assert before[0] == "setup 1"
    assert "end 1" not in before
    run.retry()
    assert run.wait(PATIENCE) == "complete", run.explain()
    assert words(project, run)[-1] == "end 1"
    assert run.total_progress.complete == 38
    assert check_order(project, run) > 50


def test_a_cancel_ends_all_levels(project: Project) -> None:
    """What has not started is cancelled at each level, and no message of it runs."""
    run = Whole.using(app=project.app).start(3)
    wait_for(lambda: words(project, run))
    run.cancel()
    assert run.wait(PATIENCE) == "cancelled"
    assert run.total_progress.pending == 0
    assert "end 3" not in words(project, run)
