"""The documentation's Python blocks run, and print what the page says."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pages import programs
from projects import ROOT, Project

PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if programs(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_code_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path, sqlite_url: str) -> None:
    """Every Python block runs, in order, against a real database and a worker."""
    database = tmp_path / "shop.sqlite3"
    shutil.copy(urlsplit(sqlite_url).path, database)
    project = Project(ROOT / "examples/shop", tmp_path, "memory://", f"sqlite:///{database}")
    project.run(str(ROOT / "tests/pages.py"), str(page))
