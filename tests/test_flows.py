"""Installing Flows on an app: nothing happens before it must, and every way to make an app works."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from apps import flows_app, messages, plain_app, rows, runtime_of, work
from celery import Celery, Task, shared_task

from celery_flows import Batch, Flows, current_job
from celery_flows.errors import ConfigurationError, NoFlows, NotCelery
from celery_flows.messaging.runtime import find_runtime


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app with Flows and a few tasks."""
    with flows_app(file_url) as app:
        yield app


def run_one(app: Celery, task: Any, *args: Any) -> Any:
    """Run a batch of one job, and give back its row."""
    batch = Batch.create(app=app)
    with batch.jobs():
        task.delay(*args)
    work(app)
    (row,) = rows(app, batch_id=batch.id)
    return row


def test_nothing_is_opened_or_configured_by_installing(tmp_path: Path) -> None:
    """Flows(app) reads no setting, makes no engine and opens nothing, so that later settings count."""
    app = plain_app()
    flows = Flows(app, database_url=f"sqlite:///{tmp_path / 'flows.sqlite3'}")
    assert not app.configured
    assert not app.finalized
    app.conf.update(flows_chunk_size=7, task_serializer="yaml")
    assert not app.configured
    assert runtime_of(app).settings.chunk_size == 7
    assert app.conf.task_serializer == "yaml"
    assert flows.app is app
    assert list(tmp_path.iterdir()) == []


def test_importing_needs_no_driver_and_opens_nothing(tmp_path: Path) -> None:
    """Importing the package and installing it loads no database driver and no engine."""
    script = """
import sys
from celery import Celery
from celery_flows import Flows
app = Celery("shop", broker="redis://nowhere.invalid/0")
Flows(app, database_url="postgresql+psycopg://nowhere.invalid/shop")
assert not app.configured
loaded = {"psycopg", "pymysql", "redis", "alembic", "rich"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_installing_twice_changes_settings_only(app: Celery) -> None:
    """A second Flows, or init_app, on one app captures each call once, and gives later settings."""
    runtime = runtime_of(app)
    Flows(app).init_app(app, table_prefix="flows_")
    assert runtime_of(app) is runtime
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.add"].delay(1)
    assert len(rows(app, batch_id=batch.id)) == len(messages(app)) == 1


def test_init_app_by_itself(file_url: str) -> None:
    """Flows() remembers its settings for the app that it is given later; those of init_app go first."""
    flows = Flows(database_url="sqlite:///other.sqlite3", chunk_size=3)
    app = plain_app()
    assert flows.init_app(app, database_url=file_url) is flows
    assert (runtime_of(app).settings.database_url, runtime_of(app).settings.chunk_size) == (file_url, 3)


def test_what_is_no_celery_app_is_refused() -> None:
    """Given a Flask app, or anything else, Flows says what to pass."""
    from flask import Flask

    with pytest.raises(NotCelery, match=r'got a flask\.app\.Flask\. .*app\.extensions\["celery"\]'):
        Flows().init_app(Flask("shop"))
    with pytest.raises(NotCelery, match=r"got a builtins\.str"):
        Flows("shop")
    with pytest.raises(NotCelery, match=r"got a builtins.int"):
        Batch.create(app=5)
    with pytest.raises(ConfigurationError, match=r"'plain' has no Flows"):
        Batch.create(app=plain_app("plain"))


def test_a_pickled_app_has_flows_again(file_url: str) -> None:
    """Whether configured yet or not, a copy of the app, as a spawned child gets it, has Flows and its settings."""
    for is_configured in (False, True):
        app = plain_app()
        Flows(app, database_url=file_url, chunk_size=7)
        app.conf.flows_lease_timeout = 99
        assert app.conf.broker_url if is_configured else not app.configured
        copy = pickle.loads(pickle.dumps(app))
        settings = runtime_of(copy).settings
        assert (settings.database_url, settings.chunk_size, settings.lease_timeout) == (file_url, 7, 99)
        assert runtime_of(copy) is not runtime_of(app)


def test_shared_tasks_are_jobs(app: Celery) -> None:
    """A task shared by all apps is enrolled by each app's block, and tracked."""

    @shared_task(name=f"shared.{id(app)}")
    def shared() -> None: ...

    app.set_current()
    row = run_one(app, shared)
    assert (row.task, row.state) == (f"shared.{id(app)}", "complete")


def test_flasks_context_task(file_url: str) -> None:
    """A task class of the user's, here the one of Flask's documentation, runs each job in its own way."""
    from flask import Flask, current_app

    flask_app = Flask("shop")

    class FlaskTask(Task):  # type: ignore[misc] # Celery's is untyped
        def __call__(self, *args: object, **kwargs: object) -> object:
            with flask_app.app_context():
                return self.run(*args, **kwargs)

    app = plain_app(task_cls=FlaskTask)
    Flows(app, database_url=file_url)

    @app.task(shared=False)
    def where() -> None:
        assert current_app.name == "shop"
        assert current_job() is not None

    assert isinstance(where, FlaskTask)
    assert run_one(app, where).state == "complete"


def test_a_base_of_the_users_own(app: Celery) -> None:
    """A base class that defines what ours does too is asked as well, each method once."""
    seen: list[str] = []

    class Noisy(Task):  # type: ignore[misc] # Celery's is untyped
        job = "the user's own"

        def before_start(self, *args: Any) -> None:
            seen.append("before_start")

        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            seen.append("apply_async")
            return super().apply_async(args, kwargs, **options | {"headers": {"tenant": 7}})

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("__call__")
            return super().__call__(*args, **kwargs)

        def on_success(self, *args: Any) -> None:
            seen.append("on_success")

    @app.task(base=Noisy, bind=True, shared=False)
    def noisy(self: Any) -> None:
        assert (self.job, self.request.headers["tenant"]) == ("the user's own", 7)
        self.job = "set by the body"

    assert run_one(app, noisy).state == "complete"
    assert seen == ["apply_async", "before_start", "__call__", "on_success"]


def test_bound_tasks_know_their_job(app: Celery) -> None:
    """self.job is the job; outside a batch, and outside a task, it is None."""
    seen = []

    @app.task(bind=True, shared=False)
    def look(self: Any) -> None:
        seen.append(self.job and (self.job.id, self.job.attempt, self.job.batch.id))

    row = run_one(app, look)
    look.delay()
    work(app)
    assert seen == [(row.id, 1, row.batch_id), None]
    assert look.job is None
    assert current_job() is None


def test_class_based_tasks(app: Celery) -> None:
    """A task registered as an instance of its class is a job like any other."""

    class Count(Task):  # type: ignore[misc] # Celery's is untyped
        name = "shop.count"

        def run(self, n: int) -> int:
            assert self.job.attempt == 1
            return n + 1

    count = app.register_task(Count())
    row = run_one(app, count, 1)
    assert (row.task, row.state) == ("shop.count", "complete")


def test_tasks_of_a_finalized_app(app: Celery) -> None:
    """A task that is registered after the app is finalized is a job like any other."""
    app.finalize()

    @app.task(shared=False)
    def late() -> None:
        assert current_job() is not None

    assert run_one(app, late).state == "complete"


def test_tasks_registered_before_flows(file_url: str) -> None:
    """Flows may be installed after the tasks are defined, the app being finalized and configured."""
    app = plain_app()

    @app.task(shared=False)
    def early() -> None:
        assert current_job() is not None

    app.finalize()
    assert app.tasks
    Flows(app, database_url=file_url)
    assert run_one(app, early).state == "complete"
    assert run_one(app, app.tasks[early.name]).state == "complete"


def test_autoretry(app: Celery) -> None:
    """autoretry_for runs the job again, and its attempts are counted."""

    @app.task(autoretry_for=(ValueError,), retry_backoff=False, default_retry_delay=0, max_retries=5, shared=False)
    def stubborn() -> None:
        if current_job().attempt < 3:  # type: ignore[union-attr] # it is a job
            raise ValueError

    row = run_one(app, stubborn)
    assert (row.state, row.attempt) == ("complete", 3)


def test_annotations_stand_behind_ours(app: Celery) -> None:
    """task_annotations may give every task a before_start of the user's, and jobs are claimed all the same."""
    seen: list[str] = []

    def before_start(self: Any, task_id: str, args: Any, kwargs: Any) -> None:
        seen.append(self.job.id)

    app.conf.task_annotations = {"*": {"before_start": before_start, "rate_limit": "10/s"}}
    row = run_one(app, app.tasks["shop.add"], 1)
    assert (row.state, row.attempt, seen) == ("complete", 1, [row.id])
    assert app.tasks["shop.add"].rate_limit == "10/s"


def test_a_publisher_patched_later_is_used(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools that put theirs onto Celery.send_task after Flows was installed see what a block publishes."""
    seen: list[str] = []
    celerys_own = Celery.send_task

    def traced(self: Celery, name: str, *args: Any, **options: Any) -> Any:
        seen.append(name)
        return celerys_own(self, name, *args, **options)

    monkeypatch.setattr(Celery, "send_task", traced)
    run_one(app, app.tasks["shop.add"], 1)
    assert seen == ["shop.add"]


class TestFindingTheApp:
    """`Batch` finds its app: app=, the running task's, the current one, the only one."""

    def test_given(self, app: Celery) -> None:
        """app= takes the app, or a proxy of it."""
        from celery import current_app

        app.set_current()
        assert find_runtime(app) is find_runtime(current_app) is runtime_of(app)

    def test_of_the_running_task(self, app: Celery, file_url: str) -> None:
        """In a task it is the task's app, whichever is the current one."""
        with flows_app(file_url, name="other") as other:
            seen = []

            @app.task(shared=False)
            def ask() -> None:
                seen.append(find_runtime())

            other.set_current()
            run_one(app, ask)
            assert find_runtime() is runtime_of(other)
            assert seen == [runtime_of(app)]

    def test_in_threads(self, app: Celery, file_url: str) -> None:
        """In a thread, where Celery's current app is another, the default app or the only one is found."""
        found = """
import threading
from celery import Celery
from celery_flows import Flows, Batch
from celery_flows.messaging.runtime import find_runtime
from celery_flows.errors import NoFlows
found = []
def look():
    try:
        found.append(find_runtime().app.main)
    except NoFlows as error:
        found.append(type(error).__name__)
def ask():
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found.pop()
assert ask() == "NoFlows"
one = Celery("one", set_as_current=False)
Flows(one)
assert ask() == "one", "the only one"
two = Celery("two", set_as_current=False)
Flows(two)
assert ask() == "NoFlows", "two, none of them the default"
two.set_default()
assert ask() == "two", "the default"
one.set_current()
look()
assert found.pop() == "one", "the current one"
"""
        subprocess.run([sys.executable, "-c", found], check=True, timeout=60)

    def test_nothing_names_the_choices(self, app: Celery, file_url: str) -> None:
        """Where several apps have Flows and none is current, the error says what can be done."""
        with (
            flows_app(file_url, name="other"),
            ThreadPoolExecutor(1) as pool,
            pytest.raises(NoFlows, match=r"Batch\.create\(app=app\).*app\.set_current\(\).*exactly one app"),
        ):
            pool.submit(lambda: _no_default(Batch.create)).result()


def _no_default(call: Any) -> Any:
    from celery import _state

    before, _state.default_app = _state.default_app, None
    try:
        return call()
    finally:
        _state.default_app = before
