"""The database or the broker goes away and comes back: nothing is lost, and nothing happens twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from acceptance import faults
from acceptance.running import PATIENCE, Project, Worker, wait_for
from acceptance.writing import effects, make_table
from proxy import Proxy, proxy_to

from celery_flows import Batch
from celery_flows.messaging.sweep import sweep

#: The defaults' lease, so that nothing is given up while the test has the door shut.
CALM = {"sweep_interval": 0.3}

DATABASES = {"postgresql": "postgres_url", "mariadb": "mysql_url"}
PORTS = {"postgresql": 5432, "mariadb": 3306}
BROKER_PORTS = {"redis": 6379, "rabbitmq": 5672}


@pytest.fixture(params=PORTS)
def by_door(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[tuple[Project, Proxy]]:
    """A project whose database is behind a door."""
    name = request.param
    with (
        proxy_to(request.getfixturevalue(DATABASES[name]), PORTS[name]) as (door, url),
        closing(Project(tmp_path, redis_url, url)) as project,
    ):
        yield project, door


def test_at_enrolment_the_block_raises_and_publishes_nothing(by_door: tuple[Project, Proxy]) -> None:
    """The program learns of it; once the database is back, the same batch takes jobs."""
    project, door = by_door
    batch = project.batch()
    with pytest.raises(sa.exc.OperationalError), batch.jobs():
        project.once.delay("refused")
        door.shut()
    with project.app.connection_for_read() as connection, connection.channel() as channel:
        assert channel.queue_declare(project.app.conf.task_default_queue).message_count == 0
    door.open()
    assert (batch.status, batch.progress.total) == ("pending", 0)
    with batch.jobs():
        project.once.delay("taken")
    assert batch.progress.total == 1


def test_a_worker_waits_for_the_database_at_claim_settle_and_sweep(
    by_door: tuple[Project, Proxy], tmp_path: Path
) -> None:
    """Outcomes are kept and written later; messages that come meanwhile are claimed later; each job runs once."""
    project, door = by_door
    gate = tmp_path / "gate"
    with project.worker("prefork", 2, **CALM) as worker:
        batch = project.batch()
        with batch.jobs():
            project.gated.delay("settles", str(gate))
            project.gated.delay("settles too", str(gate))
            project.once.delay("claims")
        wait_for(lambda: len(project.seen("began")) == 2, lambda: worker.log)
        with door.away():
            # Both settle in vain, and what is next in the queue can't be claimed.
            gate.touch()
            worker.await_log("The database is away")
            worker.await_log("The sweep failed")
        # This process's own connections were cut as well.
        project.runtime.database.close()
        assert batch.wait(PATIENCE) == "complete"
        assert project.announced(batch) == ["complete", "settled"]
        assert sorted(words[0] for words in project.seen("ran")) == ["claims", "settles", "settles too"]
        assert dict(batch.progress) == {"total": 3, "complete": 3, "failed": 0, "cancelled": 0, "pending": 0}


def test_the_database_is_cut_off_exactly_at_finalize(
    by_door: tuple[Project, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that transaction, before its first statement or before its commit: the batch is decided later, once.

    The job's outcome is committed by then, and stays what it is. No sweep decides meanwhile, nor does it need to.
    """
    project, door = by_door
    monkeypatch.setenv(faults.FOLDER, str(tmp_path))
    with project.worker("prefork", 1, patches="fault_points") as worker:
        for number, moment in enumerate(("begin", "before"), start=1):
            point = f"{moment} finalize.finalize"
            faults.arm(tmp_path, point, "wait")
            batch, job_id = project.enroll("once", moment)
            wait_for(lambda point=point: project.seen("fault", point), lambda: worker.log)
            assert (project.row(job_id).state, batch.settled_at) == ("complete", None)
            with door.away():
                (tmp_path / f"{point}.go").touch()
                wait_for(lambda at_least=number: _times_away(worker) >= at_least, lambda: worker.log)
            # This process's own connections were cut as well.
            project.runtime.database.close()
            assert project.ended(batch, job_id).attempt == 1
            assert project.seen("ran", moment) == [[1]]
            wanted = {"total": 1, "complete": 1, "failed": 0, "cancelled": 0, "pending": 0}
            assert dict(batch.progress) == wanted


def _times_away(worker: Worker) -> int:
    """How often a worker met a database that had been there before."""
    return worker.log.count("trying again in 0.1 s.")


#: All but the operator's own.
END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def test_sessions_are_ended_in_a_stream_while_a_worker_drains_jobs(make_project: Callable[..., Project]) -> None:
    """pg_terminate_backend hits every session again and again: each job counts once, each callback runs once."""
    project = make_project("redis", "postgresql")
    url, size = project.settings["flows"]["database_url"], 300
    operator = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with project.worker("prefork", 2, **CALM):
        batch = project.batch()
        with batch.jobs():
            for number in range(size):
                project.add.delay(number, 1)
        ended = 0
        with operator.connect() as connection:
            while is_unsettled(connection, project, batch):
                ended += len(connection.execute(sa.text(END_SESSIONS)).all())
                wait_for(lambda: _sessions(connection) > 1 or not is_unsettled(connection, project, batch))
        operator.dispose()
        # This process's sessions were ended as well.
        project.runtime.database.close()
        assert ended > 20
        assert project.announced(batch) == ["complete", "settled"]
        wanted = {"total": size, "complete": size, "failed": 0, "cancelled": 0, "pending": 0}
        assert dict(batch.progress) == wanted


def is_unsettled(connection: sa.Connection, project: Project, batch: Batch) -> bool:
    """Whether a batch is unfinished, asked on the operator's own connection."""
    batches = project.tables.batches
    return connection.scalar(sa.select(batches.c.settled_at).where(batches.c.id == batch.id)) is None


def _sessions(connection: sa.Connection) -> int:
    return (
        connection.scalar(sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")) or 0
    )


def test_a_pool_that_is_used_up_is_waited_for(make_project: Callable[..., Project]) -> None:
    """Four threads share one connection: whoever finds none tries again, and no job is lost by it."""
    project = make_project("redis", "postgresql")
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}
    make_table(project.settings["flows"]["database_url"])
    with project.worker("threads", 4, engine_options=options, **CALM) as worker:
        batch = project.batch()
        with batch.jobs():
            for number in range(6):
                project.slow_write.delay(f"{batch.id} {number}")
        assert batch.wait(PATIENCE) == "complete"
        assert project.announced(batch) == ["complete", "settled"]
        worker.await_log("QueuePool limit")
    assert len(effects(project.settings["flows"]["database_url"], batch.id)) == 6


@pytest.fixture(params=BROKER_PORTS)
def by_broker_door(
    request: pytest.FixtureRequest, make_project: Callable[..., Project]
) -> Iterator[tuple[Project, Proxy]]:
    """A project whose broker is behind a door, with Celery's own settings for publishing."""
    broker = request.param
    with proxy_to(request.getfixturevalue(f"{broker}_url"), BROKER_PORTS[broker]) as (door, url):
        project = make_project(broker, "postgresql")
        project.reconnect(url)
        yield project, door


def test_without_a_broker_the_block_returns_and_the_sweep_publishes(
    by_broker_door: tuple[Project, Proxy],
) -> None:
    """Rows stay ready, and the next sweep after the broker is back publishes them; each job runs once."""
    project, door = by_broker_door
    batch = project.batch()
    with door.away():
        with batch.jobs():
            result = project.once.delay("later")
        assert project.row(result.id).state == "ready"
        assert sweep(project.runtime, age=0).published == 0
    assert sweep(project.runtime, age=0).published == 1
    assert project.row(result.id).state == "queued"
    with project.worker("prefork", 1, **CALM):
        assert project.ended(batch, result.id).state == "complete"
    assert len(project.seen("ran", "later")) == 1


def test_without_a_broker_callbacks_wait_until_it_is_back(by_broker_door: tuple[Project, Proxy]) -> None:
    """The last job ends while the broker is away: the callbacks are decided, stay ready, and run later, once."""
    project, door = by_broker_door
    short = {"lease_timeout": 3.0, "heartbeat_interval": 0.5, "sweep_interval": 0.3}
    with project.worker("prefork", 1, **short):
        batch, job_id = project.enroll("gated", "gated", str(project.gate))
        wait_for(lambda: project.seen("began", "gated"))
        with door.away():
            project.gate.touch()
            assert batch.wait(PATIENCE) == "complete"
            assert [job.state for job in project._open_callbacks(batch)] == ["ready", "ready"]
        assert project.announced(batch) == ["complete", "settled"]
        assert project.row(job_id).attempt == 1


def test_a_worker_that_loses_its_broker_keeps_what_it_runs_and_forgets_what_it_had_not_begun(
    make_project: Callable[..., Project], redis_url: str
) -> None:
    """What it runs is not held to be lost; what it forgot, with a message that nobody brings back, runs later."""
    with proxy_to(redis_url, 6379) as (door, url):
        project = make_project("redis", "postgresql")
        project.reconnect(url)
        short = {"lease_timeout": 3.0, "heartbeat_interval": 0.5, "sweep_interval": 0.3, "requeue_after": 1.0}
        with project.worker("prefork", 1, **short) as worker:
            batch, runs, waits = project.batch(), "", ""
            with batch.jobs():
                runs = project.gated.delay("runs", str(project.gate)).id
                waits = project.once.delay("waits").id
            wait_for(
                lambda: project.seen("began") and project.row(waits).worker_id,
                lambda: (project.row(runs), project.row(waits), worker.log),
            )
            with door.away():
                # By then it has tried in vain to give its messages back.
                worker.await_log("Cannot connect to redis")
            wait_for(lambda: project.row(waits).delivery > 1, lambda: (project.row(waits), worker.log))
            project.gate.touch()
            assert batch.wait(PATIENCE) == "complete"
            assert project.announced(batch) == ["complete", "settled"]
        assert [(project.row(one).attempt, project.row(one).losses) for one in (runs, waits)] == [(1, 0)] * 2


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("broker", BROKER_PORTS)
def test_a_broker_that_is_away_for_a_moment_costs_no_job(
    request: pytest.FixtureRequest, make_project: Callable[..., Project], broker: str, seconds: float
) -> None:
    """It is back while kombu still tries to declare the queue: the sweep publishes the job, at the latest."""
    with proxy_to(request.getfixturevalue(f"{broker}_url"), BROKER_PORTS[broker]) as (door, url):
        project = make_project(broker, "sqlite")
        project.reconnect(url)
        with project.app.producer_pool.acquire(block=True) as producer:
            assert producer.channel
        door.shut()
        opening = threading.Timer(seconds, door.open)
        opening.start()
        _, job_id = project.enroll("once", "published")
        opening.join()
        sweep(project.runtime, age=0)
        assert project.row(job_id).state == "queued"
