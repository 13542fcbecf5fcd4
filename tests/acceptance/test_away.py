"""The database or the broker goes away and comes back: nothing is lost, and nothing happens twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from acceptance.running import PATIENCE, Project, wait_for
from acceptance.writing import effects, make_table
from proxy import Proxy, proxy_to

from celery_flows import Batch
from celery_flows.messaging.sweep import sweep

#: The defaults' lease, so that nothing is given up while the test has the door shut.
CALM = {"sweep_interval": 0.3}

DATABASES = {"postgresql": "postgres_url", "mariadb": "mysql_url"}
PORTS = {"postgresql": 5432, "mariadb": 3306}


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


def test_without_a_broker_the_block_returns_and_the_sweep_publishes(
    make_project: Callable[..., Project], redis_url: str
) -> None:
    """Rows stay ready, and so do callbacks whose time comes meanwhile."""
    with proxy_to(redis_url, 6379) as (door, url):
        project = make_project("redis", "sqlite", broker_transport_options={"max_retries": 1, "interval_max": 0})
        project.settings["celery"]["task_publish_retry"] = False
        project.reconnect(url)
        batch = project.batch()
        with door.away(), batch.jobs():
            result = project.once.delay("later")
        assert project.row(result.id).state == "ready"
        assert sweep(project.runtime, age=0).published == 1
        assert project.row(result.id).state == "queued"
        with project.worker("prefork", 1, **CALM):
            assert project.ended(batch, result.id).state == "complete"


def test_without_a_broker_callbacks_wait_until_it_is_back(
    make_project: Callable[..., Project], redis_url: str, tmp_path: Path
) -> None:
    """The last job ends while the broker is away: the callbacks are decided, stay ready, and run later, once."""
    with proxy_to(redis_url, 6379) as (door, url):
        project, gate = make_project("redis", "postgresql"), tmp_path / "gate"
        project.settings["celery"] |= {"task_publish_retry": False}
        project.reconnect(url)
        short = {"lease_timeout": 3.0, "heartbeat_interval": 0.5, "sweep_interval": 0.3}
        with project.worker("prefork", 1, **short):
            batch, job_id = project.enroll("gated", "gated", str(gate))
            wait_for(lambda: project.seen("began", "gated"))
            with door.away():
                gate.touch()
                assert batch.wait(PATIENCE) == "complete"
                assert [job.state for job in project._open_callbacks(batch)] == ["ready", "ready"]
            assert project.announced(batch) == ["complete", "settled"]
            assert project.row(job_id).attempt == 1
