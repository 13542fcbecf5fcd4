"""A place of the chaos run: a broker and a database behind doors, and a crew that works there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from acceptance.running import Project
from acceptance.writing import make_table
from chaos.crew import SHORT, Crew
from chaos.servers import OwnPostgres
from proxy import Proxy, proxy_to
from sqlalchemy import Engine, create_engine, text

PORTS: Final = {"redis": 6379, "rabbitmq": 5672, "postgresql": 5432, "mariadb": 3306}

_SESSIONS: Final = {
    "postgresql": (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
}

_END: Final = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


@dataclass
class Place:
    """One broker and one database, as the killer and the reckoning see them."""

    name: str
    project: Project
    crew: Crew
    broker_door: Proxy
    database_door: Proxy
    #: A way to the database around its door.
    operator: Engine
    #: The database's own server, where it is ours to restart.
    server: OwnPostgres | None

    @property
    def database_url(self) -> str:
        """The database, around its door."""
        return self.operator.url.render_as_string(hide_password=False)

    def sessions(self) -> list[int]:
        """The sessions of the crew, and of this process, at the database."""
        with self.operator.connect() as connection:
            return sorted(connection.scalars(text(_SESSIONS[self.operator.dialect.name])))

    def end_session(self, number: int) -> None:
        """Let the database end a session, as an operator does."""
        with self.operator.connect() as connection:
            connection.execute(text(_END[self.operator.dialect.name].format(number)))

    def purge(self) -> int:
        """Lose all messages that wait in the queue."""
        app = self.project.app
        with app.connection_for_write() as connection, connection.channel() as channel:
            return int(channel.queue_purge(app.conf.task_default_queue) or 0)


@dataclass(frozen=True)
class Services:
    """Where a place is."""

    broker: str
    broker_url: str
    database: str
    database_url: str
    server: OwnPostgres | None = None


@contextmanager
def open_place(services: Services, scratch: Path, seed: str, workers: int, producers: int) -> Iterator[Place]:
    """Open the doors, and let a crew begin; at the end nobody is left."""
    name = f"{services.broker} + {services.database}"
    with (
        proxy_to(services.broker_url, PORTS[services.broker]) as (broker_door, broker_url),
        proxy_to(services.database_url, PORTS[services.database]) as (database_door, database_url),
        closing(Project(scratch, broker_url, database_url)) as project,
    ):
        project.settings["flows"] |= SHORT
        make_table(services.database_url)
        operator = create_engine(services.database_url, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
        crew = Crew(project, scratch, f"{seed} {name}", workers, producers)
        try:
            yield Place(name, project, crew, broker_door, database_door, operator, services.server)
        finally:
            crew.kill()
            operator.dispose()
