"""The wheel, installed alone into an empty environment, does its work."""

from __future__ import annotations

import os
import subprocess
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

#: An app as small as a user's first one.
SHOP = """
from pathlib import Path

from celery import Celery
from celery_flows import Batch, Flows

Path("messages").mkdir(exist_ok=True)
app = Celery("shop", broker="filesystem://")
app.conf.broker_transport_options = {{"data_folder_in": "messages", "data_folder_out": "messages"}}
app.conf.worker_enable_remote_control = False
flows = Flows(app, database_url="{database_url}")


@app.task
def add(a, b):
    return a + b


@app.task
def announce(batch_id):
    Path("announced.part").write_text(batch_id)
    Path("announced.part").rename("announced")
"""

START = """
from shop import *

batch = Batch.create(description="from the wheel")
batch.on("complete", announce)
with batch.jobs():
    for number in range(3):
        add.delay(number, 1)
"""

REPORT = """
from shop import *

print(Batch.get(Path("announced").read_text()).status)
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, used from a folder in which the source tree can't be seen."""

    folder: Path
    workdir: Path

    def run(self, program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, without what the caller's environment would add to it."""
        command = [self.folder / "bin" / program, *args]
        return subprocess.run(
            command, cwd=self.workdir, env=self._inherited(), capture_output=True, text=True, check=False
        )

    @contextmanager
    def started(self, program: str, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program as long as the context lasts; what it says is in worker.log."""
        command = [self.folder / "bin" / program, *args]
        with (self.workdir / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.workdir, env=self._inherited(), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                yield process
            finally:
                process.terminate()
                process.wait(timeout=30)

    def _inherited(self) -> dict[str, str]:
        return {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that holds the wheel and what the wheel says that it needs: no extra, no test tool."""
    environment = Environment(tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("elsewhere"))
    venv.create(environment.folder, with_pip=True)
    installed = environment.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    assert installed.returncode == 0, installed.stderr
    return environment


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """An SQLite database that nobody has used yet."""
    return f"sqlite:///{tmp_path / 'flows.sqlite3'}"


def test_the_package_imports_without_an_extra(environment: Environment) -> None:
    """Importing the package needs no driver and no extra, and warns about nothing."""
    imported = environment.run("python", "-W", "error", "-c", "import celery_flows, celery_flows.cli")
    assert imported.returncode == 0, imported.stderr


def test_the_tables_are_made_and_checked(environment: Environment, database_url: str) -> None:
    """`celery-flows upgrade` makes the tables out of the wheel's own migrations; `check` then finds them right."""
    upgraded = environment.run("celery-flows", "--database-url", database_url, "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    checked = environment.run("celery-flows", "--database-url", database_url, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_celery_knows_the_command(environment: Environment) -> None:
    """`celery flows` is there as soon as the wheel is installed."""
    shown = environment.run("celery", "flows", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "upgrade" in shown.stdout


def test_a_batch_runs_to_its_callback(environment: Environment, database_url: str) -> None:
    """With the wheel alone, SQLite and a folder as the broker, a worker runs a batch and then its callback."""
    (environment.workdir / "shop.py").write_text(SHOP.format(database_url=database_url))
    environment.run("celery-flows", "--database-url", database_url, "upgrade")
    started = environment.run("python", "-c", START)
    assert started.returncode == 0, started.stderr

    with environment.started("celery", "--app", "shop", "worker", "--pool", "solo", "--without-mingle") as worker:
        announced = environment.workdir / "announced"
        deadline = time.monotonic() + 60
        while not announced.exists() and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)

    ended = environment.run("python", "-c", REPORT)
    assert ended.stdout == "complete\n", ended.stderr + (environment.workdir / "worker.log").read_text()
