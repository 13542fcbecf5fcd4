"""What an app needs beside its own code, in a test: a broker in memory, and a database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from celery import Celery

from celery_flows.errors import ConfigurationError
from celery_flows.flows import Flows
from celery_flows.messaging.runtime import Runtime, attached_to, find_runtime
from celery_flows.settings import DATABASE_URL_VARIABLE
from celery_flows.testing import broker
from celery_flows.testing.databases import empty, prepare, temporary_file
from celery_flows.testing.running import current
from celery_flows.testing.worker import InProcessWorker

#: What Celery reads before an app's configuration, each of them a URL of the broker.
_BROKER: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
_RESULTS: Final = "CELERY_RESULT_BACKEND"


@contextmanager
def in_memory(app: Celery | None = None, *, database_url: str | None = None) -> Iterator[InProcessWorker]:
    """Let an app do with a broker in memory and a database of its own, until the end of the block.

    The app is the current one meanwhile; a result backend, if it has one, is in memory as well. Its batches are
    deleted at the end.

    Args:
        app: by default the current one, or the only one with Flows. One without Flows gets them.
        database_url: a database that is for tests alone; its tables are made where they are missing. None: a new
            file of SQLite; but an app in a Django project keeps to the project's database, which Django's own test
            cases empty.

    Returns:
        A worker, to run its jobs.

    Raises:
        ConfigurationError: the database holds batches already, or a worker of this process runs the app's jobs.
        NoFlows: no app was found.
    """
    runtime = _runtime_of(app)
    with ExitStack() as stack:
        variables = _services(runtime.app)
        if database_url is None and not _has_frameworks_database(runtime.app):
            database_url = stack.enter_context(temporary_file())
        if database_url is not None:
            variables |= {DATABASE_URL_VARIABLE: database_url}
        stack.enter_context(_environment(variables))
        stack.enter_context(_anew(runtime))
        stack.enter_context(current(runtime.app))
        if database_url is not None:
            stack.enter_context(_own_database(runtime))
        yield InProcessWorker(runtime.app)


def _runtime_of(app: Celery | None) -> Runtime:
    if app is not None and attached_to(app) is None:
        Flows(app)
    runtime = find_runtime(app)
    if runtime.lease is not None:
        raise ConfigurationError(
            problem=f"A worker of this process runs the jobs of app {runtime.app.main!r} already, on another "
            "broker and database than the test is given. Let the test ask for flows_setup before celery_worker."
        )
    return runtime


def _has_frameworks_database(app: Celery) -> bool:
    """Whether an app's batches are in the database of a framework, whose own test cases see to it."""
    runtime = attached_to(app)
    try:
        return runtime is not None and runtime.place.make is not None
    except ConfigurationError:
        # None is configured, which is what this is for.
        return False


def _services(app: Celery) -> dict[str, str]:
    variables = dict.fromkeys(_BROKER, f"{broker.SCHEME}://localhost/")
    return variables | ({_RESULTS: "cache+memory://"} if app.conf.result_backend else {})


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set what goes before every configuration, whatever form that has."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _anew(runtime: Runtime) -> Iterator[None]:
    """Let an app forget its connections, before and after."""
    _forget(runtime)
    try:
        yield
    finally:
        _forget(runtime)
        broker.clear()


def _forget(runtime: Runtime) -> None:
    app: Any = runtime.app
    runtime.begin_anew()
    # As Celery itself does after a fork; it has no word for it that is not private.
    app._pool = app.amqp._producer_pool = app._backend_cache = None
    vars(app._local).pop("backend", None)
    vars(app).pop("control", None)


@contextmanager
def _own_database(runtime: Runtime) -> Iterator[None]:
    database = runtime.new_database(check=False)
    prepare(database)
    try:
        yield
    finally:
        empty(database)
        database.close()
