"""The plug-in, in suites of their own as users have them, each run by pytest in another process."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import _state

SHOP = """
from celery import Celery
from celery_flows import Flows, current_job

app = Celery("shop", broker="redis://nowhere/0", backend="redis://nowhere/0")
Flows(app, database_url="postgresql+psycopg://nowhere/shop")

@app.task
def score(number):
    return number

@app.task
def done(batch_id):
    assert current_job().batch.status == "complete"
"""

SUITE = """
import os
import pytest
from celery_flows import Batch
from celery_flows.testing import assert_callback, assert_enrolled, drain, enrolled
from shop import app, done, score

def filled():
    batch = Batch.create().on("complete", done)
    with batch.jobs():
        score.delay(1)
    return batch

def test_first(flows_worker):
    batch = filled()
    assert flows_worker.app is app
    assert flows_worker._runtime.database.dialect == "postgresql"
    assert_enrolled(score, args=[1], batch=batch)
    assert [ran.task for ran in flows_worker.drain()] == ["shop.score", "shop.done"]
    assert_callback(batch, "complete")
    filled()

def test_second(flows_setup):
    assert (enrolled(), drain(), flows_setup) == ([], [], app)

def test_clock(flows_worker, flows_clock):
    batch = filled()
    flows_worker.die()
    flows_clock.advance(minutes=2)
    assert (flows_worker.sweep().lost, batch.status) == (1, "failed")

def test_nothing_is_changed_for_a_test_that_does_not_ask():
    assert "CELERY_FLOWS_DATABASE_URL" not in os.environ

def test_red(flows_worker):
    assert_enrolled(score, args=[2], batch=filled())
"""


@pytest.fixture(autouse=True)
def outside(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the shop, for processes that know nothing of this one; they begin faster without plug-ins."""
    monkeypatch.delenv("CELERY_FLOWS_DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(shop=SHOP)


OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "error", "--strict-config")


OVERRIDING = """
import pytest
from celery import Celery
from celery_flows import Batch, Flows
from celery_flows.testing import drain

other = Celery("other", set_as_current=False)
Flows(other)

@other.task(shared=False)
def say(word):
    return word

@pytest.fixture
def flows_app():
    return other

@pytest.fixture(scope="session")
def flows_database_url():
    return None

def test_it(flows_worker):
    with Batch.create().jobs():
        say.delay("hi")
    assert flows_worker.app is other
    assert flows_worker._runtime.database.dialect == "sqlite"
    assert [str(ran) for ran in drain()] == ["test_overriding.say('hi'): SUCCESS"]
"""


def test_a_suite_that_opts_in(pytester: pytest.Pytester, server_url: str) -> None:
    """Fixtures are there, the app is found, each test begins with nothing, and nobody else is touched.

    The database is the one that pytest's configuration names. A suite may say otherwise, and which app it means. A
    failure ends in the test's own line and in the message, not in lines of ours.
    """
    pytester.makeconftest('from celery_flows.testing import drain\npytest_plugins = ["celery_flows.testing"]')
    pytester.makeini(f"[pytest]\nflows_database_url = {server_url}")
    pytester.makepyfile(test_shop=SUITE, test_overriding=OVERRIDING)
    found = pytester.runpytest_subprocess(*OPTIONS)
    found.assert_outcomes(passed=5, failed=1)
    found.stdout.fnmatch_lines(
        [
            ">*assert_enrolled(score, args=[[]2[]], batch=filled())",
            "E*AssertionError: shop.score(2) was not enrolled in batch *. Enrolled are 1, *",
            "E*shop.score(1): queued",
        ]
    )
    found.stdout.no_fnmatch_line("*celery_flows/testing/enrolled.py*")


def test_a_suite_that_does_not(pytester: pytest.Pytester) -> None:
    """Without opting in there are no fixtures."""
    pytester.makepyfile("def test_it(flows_worker): pass")
    pytester.runpytest_inprocess(*OPTIONS).stdout.fnmatch_lines(["*fixture 'flows_worker' not found*"])


SEVERAL = """
from celery import Celery
from celery_flows import Flows

apps = [Flows(Celery(name, set_as_current=False)).app for name in ("one", "other")]

def test_it(flows_worker):
    pass
"""


def test_several_apps(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where several apps have Flows and none is current, it says what to write where."""
    monkeypatch.setattr(_state._tls, "current_app", None)
    pytester.makepyfile(SEVERAL)
    found = pytester.runpytest_inprocess(*OPTIONS, "-p", "celery_flows.testing")
    found.stdout.fnmatch_lines(["*Several apps have Flows.*write a fixture flows_app in conftest.py that*"])


WITHOUT_PYTEST = """
import sys, unittest
sys.modules["pytest"] = None
from celery_flows import Batch
from celery_flows.testing import assert_callback, in_memory
from shop import app, done, score

class Tests(unittest.TestCase):
    def setUp(self):
        self.worker = self.enterContext(in_memory(app))

    def test_it(self):
        batch = Batch.create().on("complete", done)
        with batch.jobs():
            score.delay(1)
        self.worker.drain()
        assert_callback(batch, "complete")

unittest.main()
"""


def test_without_pytest(pytester: pytest.Pytester) -> None:
    """Unittest alone will do: nothing but the fixtures needs pytest."""
    program = pytester.makepyfile(program=WITHOUT_PYTEST)
    found = pytester.runpython(program)
    found.stderr.fnmatch_lines(["OK"])
