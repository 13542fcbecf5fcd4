"""What a job writes in its transaction happens exactly once, with its outcome, in real workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from acceptance.running import PATIENCE, Project, wait_for
from acceptance.writing import effects, make_table

from celery_flows.states import JobState
from celery_flows.store.jobs import Ending
from celery_flows.transitions.claim import claim
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.settle import settle


class Place(NamedTuple):
    """A project with a worker, and its database."""

    project: Project
    url: str

    def effects(self, beginning: str) -> list[str]:
        """The effects whose names begin so."""
        return effects(self.url, beginning)


PLACES = {
    "postgresql": ("prefork", "redis"),
    "mariadb": ("prefork", "rabbitmq"),
    "sqlite": ("prefork", "redis"),
}


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest, make_project: Callable[..., Project]) -> Iterator[Place]:
    """A worker on each of the three databases."""
    pool, broker = PLACES[request.param]
    project = make_project(broker, request.param)
    url = project.settings["flows"]["database_url"]
    make_table(url)
    with project.worker(pool, 3):
        yield Place(project, url)


#: SQLite has one writer, and no sessions to end.
on_servers = pytest.mark.parametrize("place", ["postgresql", "mariadb"], indirect=True)


@pytest.mark.parametrize(
    ("how", "state", "attempts", "times"),
    [
        ("well", "complete", 1, 1),
        ("error", "failed", 1, 0),
        ("retry", "complete", 2, 1),
        ("ignored", "complete", 1, 0),
        ("left", "complete", 1, 0),
        ("replaced", "complete", 2, 0),
    ],
)
def test_effects_commit_with_the_jobs_success_alone(
    place: Place, how: str, state: str, attempts: int, times: int
) -> None:
    """An error, a retry, Ignore, and an error that leaves the block roll back; the retry's success commits."""
    job = place.project.run("write", how, how)
    assert (job.state, job.attempt) == (state, attempts)
    assert place.effects(how) == [how] * times
    # What replaces a job counts as its next attempt.
    assert len(place.project.seen("wrote", how)) == attempts - (how == "replaced")


def test_a_block_within_goes_on_in_the_same_transaction(place: Place) -> None:
    """The job has one transaction."""
    assert place.project.run("nested", "nested").state == "complete"
    assert place.project.seen("same", "nested") == [[True]]
    assert place.effects("nested") == ["nested"]


@on_servers
def test_a_job_that_another_has_taken_writes_nothing(place: Place, tmp_path: Path) -> None:
    """The fence finds it at the commit, and rolls back; the other's claim is left alone."""
    project, database, gate = place.project, place.project.runtime.database, tmp_path / "gate"
    batch, job_id = project.enroll("write", "taken", "held", str(gate))
    wait_for(lambda: project.seen("wrote", "taken"))
    first = project.row(job_id)
    _, ready = lose(database, job_id, first.token, LossPolicy("retry", 3), "held to be dead")
    assert claim(database, job_id, ready[0].delivery, "another") == 2
    gate.touch()
    after = project.run("write", "after taken")
    assert after.state == "complete"
    assert (project.row(job_id).state, project.row(job_id).token) == ("running", "another")
    ending = Ending(job_id, JobState.COMPLETE, delivery=ready[0].delivery, token="another")
    project.runtime.publisher.publish(settle(database, ending, batch_id=batch.id))
    assert project.ended(batch, job_id).attempt == 2
    assert place.effects("taken") == []


@on_servers
def test_a_job_whose_session_ends_before_the_commit_runs_again(place: Place) -> None:
    """Nothing was written, so it bears another run, whatever the settings say of losses."""
    job = place.project.run("write", "cut", "cut")
    assert (job.state, job.attempt) == ("complete", 2)
    assert place.effects("cut") == ["cut"]


def test_a_callback_whose_process_dies_has_its_effect_once(place: Place) -> None:
    """Before the block, in it, or after it: it runs again, and what it wrote before is not there."""
    project, points = place.project, ["before", "within", "after"]
    batch = project.batch()
    for point in points:
        batch.on("settled", project.record.s("settled", point))
    with batch.jobs():
        project.add.delay(1, 1)
    assert batch.wait(PATIENCE) == "complete"
    assert project.announced(batch) == ["complete", "settled"]
    assert place.effects(batch.id) == sorted(f"{batch.id} settled {point}" for point in points)
    assert all(attempt == 2 for *_, point, attempt in project.seen("recorded", batch.id) if point != "after")


def test_outside_of_a_batch_there_is_no_job(place: Place, tmp_path: Path) -> None:
    """`current_job()` is None: there is nothing whose outcome a transaction could be tied to."""
    said = tmp_path / "said"
    place.project.homeless.delay(str(said))
    wait_for(lambda: said.exists() and said.read_text())
    assert said.read_text() == "None"
