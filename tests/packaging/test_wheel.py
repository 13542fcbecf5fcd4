"""The wheel, installed alone into an empty environment, does its work."""

from __future__ import annotations

import os
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Environment:
    """A virtual environment, used from a folder in which the source tree can't be seen."""

    folder: Path
    workdir: Path

    def run(self, program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, without what the caller's environment would add to it."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self.folder / "bin" / program, *args],
            cwd=self.workdir,
            env=inherited,
            capture_output=True,
            text=True,
            check=False,
        )


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
