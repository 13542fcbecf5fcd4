"""tests/oldest.txt and pyproject.toml name the same lower bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def bounds() -> dict[str, Version]:
    """The lower bound of every distribution that the package, or one of its extras, requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    found = {}
    for requirement in map(Requirement, lines):
        (specifier,) = requirement.specifier
        assert specifier.operator == ">=", f"{requirement} has to be a lower bound, and nothing else"
        found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def pins() -> dict[str, Version]:
    """What tests/oldest.txt pins."""
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(each.name): Version(next(iter(each.specifier)).version) for each in requirements}


@pytest.mark.parametrize("name", bounds())
def test_a_lower_bound_is_what_the_oldest_environment_runs(name: str) -> None:
    """What pyproject.toml promises as the oldest release is the release that tests/oldest.txt pins."""
    assert pins().get(name) == bounds()[name]
