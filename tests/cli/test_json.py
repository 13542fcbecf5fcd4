"""Commands for the tables, the sweep and templates say the same to programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from commands import here, records
from pydantic import BaseModel

from celery_flows import Batch, Template, Workflow
from celery_flows.store.revisions import HEAD


def test_the_tables(tmp_path: Path) -> None:
    """At which revision they are, and whether they fit; what is not there is an error, as it is for people."""
    url = f"sqlite:///{tmp_path / 'flows.sqlite3'}"
    assert records(here("current", "--json", url=url)) == [{"revision": None, "latest": HEAD}]
    missing = here("check", "--json", url=url)
    assert (missing.code, missing.out, "upgrade" in missing.err) == (1, "", True)
    assert records(here("upgrade", "--json", url=url)) == [{"revision": HEAD}]
    assert records(here("check", "--json", url=url)) == [{"revision": HEAD, "fits": True}]
    asked = here("downgrade", "base", "--json", url=url)
    assert (asked.code, asked.out, asked.err.endswith("say --yes.\n")) == (2, "", True)
    assert records(here("downgrade", "base", "--yes", "--json", url=url)) == [{"revision": None}]


def test_the_sql() -> None:
    """In one line, which a program reads as many."""
    [written] = records(here("sql", "--dialect", "postgresql", "--json"))
    assert (written["dialect"], "CREATE TABLE flows_jobs" in written["sql"]) == ("postgresql", True)


def test_what_was_repaired(app: Celery) -> None:
    """The numbers, and the batches that were decided."""
    none = {"lost": 0, "published": 0, "expired": 0, "released": 0, "batches": []}
    assert records(here("reconcile", "--json", app=app)) == [none]


class Entry(BaseModel):
    """Params."""

    entry_id: int


@pytest.fixture
def template(app: Celery) -> Iterator[str]:
    """A template's name."""
    name = "rescore for programs"
    Template.register(
        name, lambda entry: Workflow.from_canvas(app.signature("shop.add", (entry.entry_id,))), input=Entry
    )
    yield name
    Template._known.pop(name)


def test_templates(app: Celery, template: str) -> None:
    """Each with its params; a preview is its nodes and edges, and a run the id of a batch."""
    found = {one["name"]: one["described"] for one in records(here("templates", "--json", app=app))}
    assert found[template] == f"{template}(entry_id)"
    run = ("run", template, "--param", "entry_id=7", "--json")
    [preview] = records(here(*run, "--preview", app=app))
    assert [node["task"] for node in preview["nodes"]] == ["shop.add"]
    [started] = records(here(*run, app=app))
    assert Batch.get(started["id"], app=app).progress.total == 1
