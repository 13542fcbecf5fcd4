"""examples/library, with a worker process on Redis and SQLite: five poems are indexed and found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from projects import ROOT, Project

LIBRARY = ROOT / "examples/library"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Project]:
    """The project with its worker."""
    scratch = tmp_path_factory.mktemp("library")
    project = Project(LIBRARY, scratch, redis_url, f"sqlite:///{scratch / 'flows.sqlite3'}")
    project.run("-m", "celery", "-A", "library", "flows", "upgrade")
    with project.worker("library", "--concurrency", "2"):
        yield project


def test_a_folder_is_indexed_and_found(project: Project) -> None:
    """Every text is listed with its keywords, words are added up, and the search finds what it asks for."""
    said = project.run(str(LIBRARY / "search.py"), str(LIBRARY / "texts"), "dance", "OR", "antique").splitlines()
    assert said[:6] == [
        "I Wandered Lonely as a Cloud, William Wordsworth, 1815: beside, daffodils, gazed, waves",
        "Ozymandias, Percy Bysshe Shelley, 1818: these, antique, appear, beside",
        "Sonnet 18, William Shakespeare, 1609: shall, eternal, sometime, summer's",
        "The Eagle, Alfred Tennyson, 1851: azure, beneath, clasps, close",
        "The Tyger, William Blake, 1794: tyger, dread, bright, burning",
        "5 texts, 560 words",
    ]
    assert sorted(line.partition(" (")[0] for line in said[6:]) == [
        "found in I Wandered Lonely as a Cloud",
        "found in Ozymandias",
    ]


def test_from_the_command_line(project: Project) -> None:
    """The template is listed with its params, previewed, and run with others; a job's share is in the index."""
    flows = ("-m", "celery", "-A", "library", "flows")
    assert project.run(*flows, "templates") == (
        "enrich_and_index(folder, index, pattern='*.txt', keywords=3, shortest=5)\n"
    )
    asked = (
        *flows,
        "run",
        "enrich_and_index",
        "--param",
        f"folder={LIBRARY / 'texts'}",
        "--param",
        "index=cli.db",
    )
    assert "  - library.enrich, 5 times\n" in project.run(*asked, "--preview")
    run_id = project.run(*asked, "--param", "keywords=1").strip()
    waiting = "import library, sys; from celery_flows import Batch; print(Batch.get(sys.argv[1]).wait(timeout=30))"
    assert project.run("-c", waiting, run_id) == "complete\n"
    with closing(sqlite3.connect(project.scratch / "cli.db")) as connection:
        found = connection.execute("SELECT name, keywords FROM texts ORDER BY name").fetchall()
    assert found == [
        ("daffodils.txt", "beside"),
        ("ozymandias.txt", "these"),
        ("sonnet-18.txt", "shall"),
        ("the-eagle.txt", "azure"),
        ("the-tyger.txt", "tyger"),
    ]
