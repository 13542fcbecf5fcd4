"""A whole batch comes to its end whatever process crashes, errs or hangs before or after any commit or publish.

On SQLite each point meets each action; on PostgreSQL and MariaDB a sample does, unless FLOWS_TEST_EXHAUSTIVE
is set.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptance import faults
from acceptance.produce import whole_batch
from acceptance.running import PATIENCE, Project, Worker, wait_for
from acceptance.struck import Struck
from acceptance.test_flows import check_order
from acceptance.writing import effects, make_table

from celery_flows import Batch
from celery_flows.store.relay import RELAYING

#: Short leases, so that what a crash left is taken over soon; a job may lose many workers here.
SHORT = {
    "lease_timeout": 1.5,
    "heartbeat_interval": 0.4,
    "sweep_interval": 0.3,
    "requeue_after": 1.0,
    "max_losses": 100,
    "patches": "fault_points",
}

#: Before and after these a producer may be struck.
PRODUCING = (
    "batch._create",
    "listen.listen",
    "block._write",
    "publish a message",
    "publish a chunk",
    "publishing.mark_queued",
)

#: Before and after these a worker may be struck, in its pool or in its main process.
WORKING = (
    "jobs.claim",
    "jobs.complete",
    "jobs.fail",
    "jobs.probe",
    "batches.outlook",
    "effects.commit",
    "jobs.retry",
    "retry_job._written",
    "finalize.finalize",
    "finalize._report",
    "publish a message",
    "publish a chunk",
    "publishing.mark_queued",
    "publishing.mark_one",
    "lease._renew",
    "workers.take_sweep_turn",
    "publishing.take_overdue",
)

#: And these where jobs wait for one another.
FLOWING = (
    "jobs.complete",
    "jobs.fail",
    "effects.commit",
    "edges.close",
    "edges.due",
    "release.settle_waiting",
    "edges.forget_release",
    "add_job._add",
    "block._write",
    "finalize.finalize",
    "finalize._report",
    "publish a chunk",
)

#: These come by the clock: passes of the sweep, what waits in memory, and what follows a lease renewed late.
BY_THE_CLOCK = {
    "publishing.take",
    "recover._take_waiting",
    "leases.reserve",
    "leases.let_go",
    "leases.take_reserved",
    "leases.end",
    "lose._lose",
    "edges.close",
    "edges.due",
    "edges.forget_release",
}

#: How many cases make a sample; None: all are run.
SIZE = None if os.environ.get("FLOWS_TEST_EXHAUSTIVE") == "1" else 4


def cases(
    names: tuple[str, ...], database: str, actions: tuple[str, ...] = faults.ACTIONS
) -> list[tuple[str, str]]:
    """Each point with each action, or some of them, the same in each run."""
    every = [(f"{when} {name}", action) for name in names for when in ("before", "after") for action in actions]
    return every if database == "sqlite" else random.Random(7).sample(every, SIZE or len(every))


class Crew:
    """Workers that are struck, and started again where they died."""

    def __init__(self, project: Project, scratch: Path) -> None:
        self.project, self._scratch = project, scratch
        self._workers = [self._start() for _ in range(2)]

    def _start(self) -> Worker:
        return Worker(self.project, self._scratch, "prefork", 2, (), dict(SHORT))

    def tend(self) -> None:
        """Start again who died."""
        self._workers = [one if one.process.poll() is None else self._start() for one in self._workers]

    def until(self, look: Callable[[], bool], what: Callable[[], object]) -> None:
        """Tend the workers until something has come about."""

        def seen() -> bool:
            self.tend()
            return look()

        wait_for(seen, lambda: (what(), self._said()), PATIENCE)

    def _said(self) -> str:
        logs = [one.log[-3000:] for one in self._workers]
        # Where a process hangs, its log says nothing.
        stacks = [stack for one in self._workers for stack in one.stacks().values()]
        return "\n".join([*logs, *stacks])

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def crew(
    request: pytest.FixtureRequest, make_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crew]:
    """Two workers on each of the databases, with a folder in which faults are armed."""
    scratch = tmp_path_factory.mktemp("crew")
    project = make_project("redis", request.param)
    project.settings["flows"] |= {key: value for key, value in SHORT.items() if key != "patches"}
    project.settings["flows"]["merges"] = {"written": "sum"}
    project.app.conf.flows_merges = {"written": "sum"}
    make_table(project.settings["flows"]["database_url"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(faults.FOLDER, str(scratch))
        crew = Crew(project, scratch)
        yield crew
        crew.close()


def folder() -> Path:
    """Where faults are armed."""
    return Path(os.environ[faults.FOLDER])


def see_the_end(crew: Crew, batch_ids: list[str]) -> None:
    """See that batches end, that their numbers add up, and that each effect happened once."""
    project = crew.project
    batches = [Batch.get(batch_id, app=project.app) for batch_id in batch_ids]
    open_ones = lambda: [b for b in batches if b.settled_at is None or project._open_callbacks(b)]  # noqa: E731
    crew.until(lambda: not open_ones(), lambda: [(b.id, str(b.explain())) for b in open_ones()])
    for batch in batches:
        assert dict(batch.progress) == {"total": 4, "complete": 3, "failed": 1, "cancelled": 0, "pending": 0}
        assert batch.status == "complete"
        names = ["child", "complete", "job", "retried", "settled"]
        assert effects(project.settings["flows"]["database_url"], batch.id) == [f"{batch.id} {n}" for n in names]
        remembered = batch.memory.read()
        assert remembered.pop("written") == 2
        assert sorted(remembered) == [f"{batch.id} job", f"{batch.id} retried"]


def flowing(crew: Crew) -> tuple[str, ...]:
    """Where jobs wait for one another, on a crew's database: one may end them with what lets others go."""
    if database_of(crew) not in RELAYING:
        return FLOWING
    return tuple("relay.relay" if name == "jobs.complete" else name for name in FLOWING)


def database_of(crew: Crew) -> str:
    """The name of the database that a crew works on."""
    return crew.project.runtime.database.dialect.replace("mysql", "mariadb")


@pytest.mark.timeout(600)
def test_workers_are_struck_at_each_point(crew: Crew) -> None:
    """They crash, err or hang there once; what they had is taken over, and everything ends as without."""
    batch_ids = []
    for point, action in cases(WORKING, database_of(crew)):
        armed = faults.arm(folder(), point, action)
        batch_ids.append(whole_batch(crew.project.app))
        crew.until(lambda armed=armed: not armed.exists(), lambda armed=armed: f"{armed.name} was not reached")
        (folder() / f"{point}.go").touch()
    see_the_end(crew, batch_ids)


@pytest.mark.timeout(600)
def test_workers_of_a_flow_are_struck_at_each_point(crew: Crew) -> None:
    """No step is left out, made twice or left standing, whatever each runs for another; each comes in its turn."""
    every = cases(flowing(crew), "sqlite")
    keys = []
    for number, (point, action) in enumerate(random.Random(8).sample(every, SIZE or len(every))):
        keys.append(f"flow{number}")
        armed = faults.arm(folder(), point, action)
        Struck.using(app=crew.project.app, context=keys[-1], tags=[keys[-1]]).start(keys[-1])
        crew.until(lambda armed=armed: not armed.exists(), lambda armed=armed: f"{armed.name} was not reached")
        (folder() / f"{point}.go").touch()
    for key in keys:
        see_the_end_of_a_flow(crew, key)


def see_the_end_of_a_flow(crew: Crew, key: str) -> None:
    """See that a flow ends as it is planned, that each effect happened once, and each job came in its turn."""
    project = crew.project
    [run] = Batch.list(tag=key, app=project.app)
    crew.until(lambda: run.settled_at is not None and not project._open_callbacks(run), lambda: run.explain())
    why = [(key, job.task, job.error_class, job.error_message) for job in run.failed_jobs]
    assert (run.status, run.progress.failed, run.progress.cancelled) == ("complete", 1, 1), why
    found = effects(project.settings["flows"]["database_url"], f"{key} ")
    assert len(set(found)) == len(found)
    names = [
        "end",
        "first",
        "low 0",
        "low 1",
        "one",
        "rescue",
        "settled",
        "side 0",
        "side 1",
        "steps one two",
        "two",
    ]
    # What a job adds is added as often as it runs.
    grown = [name for name in found if "grown" in name or "added" in name]
    assert {name.split()[1] for name in grown} == {"grown", "added"}
    assert sorted(set(found) - {*grown}) == [f"{key} {name}" for name in names]
    # What a job remembers is there if, and only if, what it wrote is.
    remembered = run.memory.read()
    assert remembered.pop("key") == key
    assert remembered.pop("written") == len(remembered)
    assert {*remembered} == {*found} - {f"{key} {name}" for name in ("one", "two", "steps one two", "settled")}
    check_order(project, run)


@pytest.mark.timeout(600)
def test_producers_are_struck_at_each_point(crew: Crew) -> None:
    """Either nothing was enrolled, and the program knows or died with it; or all of it runs."""
    project, chosen = crew.project, cases(PRODUCING, database_of(crew))
    here = folder() / "producers"
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "acceptance.produce", *(f"{point}={action}" for point, action in chosen)],
        env=project.environment("fault_points") | {faults.FOLDER: str(here)},
        capture_output=True,
        text=True,
        timeout=len(chosen) * PATIENCE / 10,
    )
    assert done.returncode == 0, done.stderr
    assert [*here.glob("*=*")] == []
    batch_ids = done.stdout.split()
    begun = [one for one in batch_ids if Batch.get(one, app=project.app).status != "pending"]
    see_the_end(crew, begun)
    # One died before it could say which batch; four with a batch that had not begun.
    if SIZE is None or database_of(crew) == "sqlite":
        assert (len(batch_ids), len(begun)) == (len(chosen) - 2, len(chosen) - 2 - 3)


def test_no_commit_escapes(crew: Crew) -> None:
    """What a batch's way through the workers commits and publishes is what the test above strikes."""
    (folder() / "tracing").touch()
    see_the_end(crew, [whole_batch(crew.project.app)])
    reached = lambda: reached_points(crew)  # noqa: E731
    crew.until(lambda: reached() >= {*WORKING}, reached)
    (folder() / "tracing").unlink()
    assert reached() - BY_THE_CLOCK == {*WORKING}


def test_no_commit_of_a_flow_escapes(crew: Crew) -> None:
    """Nor any of those by which jobs wait for one another."""
    (folder() / "tracing").touch()
    Struck.using(app=crew.project.app, context="traced", tags=["traced"]).start("traced")
    see_the_end_of_a_flow(crew, "traced")
    (folder() / "tracing").unlink()
    assert reached_points(crew) - BY_THE_CLOCK - {*WORKING} == {*flowing(crew)} - {*WORKING} - BY_THE_CLOCK


def reached_points(crew: Crew) -> set[str]:
    """The points by which workers came while they were traced."""
    return {words.partition(" ")[2] for [words] in crew.project.seen("point")}
