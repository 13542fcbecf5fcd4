"""What the wheel and the sdist hold."""

from __future__ import annotations

import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def names(wheel: Path) -> set[str]:
    """The paths inside the wheel."""
    return set(zipfile.ZipFile(wheel).namelist())


def read(wheel: Path, file: str) -> str:
    """One of the files in the wheel's dist-info."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{file}"))
        return archive.read(name).decode()


def metadata(wheel: Path) -> Message:
    """The wheel's metadata, as an index would read it."""
    return Parser().parsestr(read(wheel, "METADATA"))


def sources(folder: str, package: str) -> set[str]:
    """Where the modules of a folder belong in the wheel."""
    return {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in (ROOT / folder).rglob("*.py")}


def test_every_module_is_in_the_wheel(names: set[str]) -> None:
    """A module that can be imported from the source tree can be imported from the wheel."""
    assert sources("celery_flows", "celery_flows") <= names


def test_the_migrations_are_in_the_wheel(names: set[str]) -> None:
    """The migrations travel as celery_flows.migrations, with the template that writes new ones."""
    assert sources("migrations", "celery_flows/migrations") <= names
    assert "celery_flows/migrations/script.py.mako" in names


def test_the_wheel_says_that_it_is_typed(names: set[str]) -> None:
    """A type checker reads the package's own annotations."""
    assert "celery_flows/py.typed" in names


def test_what_the_admin_shows_is_in_the_wheel(names: set[str]) -> None:
    """The pages and the styles of Django's admin travel with its modules."""
    folder = ROOT / "celery_flows/contrib/django"
    files = [path for kind in ("templates", "static") for path in (folder / kind).rglob("*.*")]
    assert len(files) >= 3
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names


def test_nothing_but_the_package_is_in_the_wheel(names: set[str]) -> None:
    """Installing the wheel puts no tests, docs or migrations at the top of site-packages."""
    assert {name.partition("/")[0].split("-")[0] for name in names} == {"celery_flows"}


def test_the_metadata_names_license_python_and_extras(wheel: Path) -> None:
    """The license is an SPDX expression, its text travels along, and each extra is announced."""
    found = metadata(wheel)
    assert found["License-Expression"] == "BSD-3-Clause"
    assert found["License-File"] == "LICENSE"
    assert found["Requires-Python"] == ">=3.11"
    assert set(found.get_all("Provides-Extra", [])) >= {"cli", "mysql", "postgres", "redis"}


def test_no_requirement_has_an_upper_cap(wheel: Path) -> None:
    """A user may install a newer release of anything that the package needs."""
    assert [
        line for line in metadata(wheel).get_all("Requires-Dist", []) if "<" in line or "==" in line.split(";")[0]
    ] == []


def test_the_commands_are_announced(wheel: Path) -> None:
    """The wheel brings celery-flows, and `celery flows` through Celery's own entry point."""
    lines = read(wheel, "entry_points.txt").splitlines()
    assert "celery-flows = celery_flows.cli:main" in lines
    assert lines[lines.index("[celery.commands]") + 1] == "flows = celery_flows.cli:flows"


def test_the_sdist_can_be_tested(sdist: Path) -> None:
    """Who packages the library for a distribution finds the tests and their configuration in the sdist."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tox.ini", "tests/oldest.txt", "tests/packaging/test_distributions.py", "docs/changelog.md"} <= names
