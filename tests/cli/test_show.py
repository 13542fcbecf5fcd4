"""The commands show and explain: a batch, and what is inside it."""

from __future__ import annotations

import re

import pytest
from apps import flows_app, work
from celery import Celery
from commands import here, records

from celery_flows import Batch
from celery_flows.cli import inside
from celery_flows.store.database import Database


def leaderboard(app: Celery) -> Batch:
    """A batch with a child and a grandchild, in which some jobs failed, all ended."""
    add, fail, note = (app.tasks[f"shop.{name}"] for name in ("add", "fail", "note"))
    batch = Batch.create(description="Rescore", context={"id": 42}, tags=["nightly"], tolerate=9, app=app)
    batch.on("complete", note).on("failure", note).on("settled", fail)
    with batch.jobs():
        add.delay(1)
        fail.delay("no\nentry\x1b[31m")
        child = Batch.create(description="Part 1", app=app)
        with child.jobs():
            fail.delay("broken")
            with Batch.create(description="Half", app=app).jobs():
                add.delay(1)
    work(app)
    return batch


def shown(batch: Batch, *words: str, **where: str) -> list[str]:
    """What people see, without ids, times and rates, which differ."""
    done = here("show", batch.id, *words, url=where["url"])
    assert (done.code, done.err) == (0, "")
    lines = [re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[-0-9a-f]+", "ID", line) for line in done.out.splitlines()]
    return [re.sub(r", \S+ jobs/s|\d{4}-\S+ \S+ UTC \(\d+s ago\)", "", line).rstrip() for line in lines]


def test_for_people(app: Celery, file_url: str) -> None:
    """What it is, its callbacks, its children as a tree, and what failed in any of them, with errors."""
    assert shown(leaderboard(app), url=file_url) == [
        "Batch ID",
        "  about      Rescore",
        "  state      complete",
        "  progress   3 of 3 jobs (100 %), 2 failed",
        "  in all     4 of 4 jobs (100 %), 2 failed",
        "  kind       batch",
        "  tags       nightly",
        "  created",
        "  started",
        "  decided",
        "  finished",
        "  tolerates  9",
        '  context    {"id": 42}',
        "Callbacks",
        "  complete   shop.note: complete",
        "  failure    shop.note: skipped",
        "  settled    shop.fail: failed  ValueError: ID",
        "Children",
        "  └── ID  failed  2/2  Part 1",
        "      └── ID  complete  1/1  Half",
        "Failed jobs",
        "  ID  shop.fail, 1 attempt",
        "      ValueError: no",
        "      entry\\x1b[31m",
        "  ID of ID  shop.fail, 1 attempt",
        "      ValueError: broken",
    ]


def test_for_programs(app: Celery, file_url: str) -> None:
    """One object, with the same inside of it."""
    batch = leaderboard(app)
    [found] = records(here("show", batch.id, "--json", url=file_url))
    assert (found["id"], found["state"], found["progress"]["total"]) == (batch.id, "complete", 3)
    assert found["total_progress"]["total"] == 4
    assert [(one["event"], one["state"]) for one in found["callbacks"]] == [
        ("complete", "complete"),
        ("failure", "skipped"),
        ("settled", "failed"),
    ]
    [child] = found["children"]
    [half] = child["children"]
    assert (child["description"], half["description"], half["children"]) == ("Part 1", "Half", [])
    assert [(one["batch_id"], one["error_message"]) for one in found["failed_jobs"]] == [
        (batch.id, "no\nentry\x1b[31m"),
        (child["id"], "broken"),
    ]


def test_what_is_long_is_cut(app: Celery, file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said how to see the rest."""
    monkeypatch.setattr(inside, "_OF_ONE", 2)
    monkeypatch.setattr(inside, "_FAILED", 1)
    batch = Batch.create(app=app)
    with batch.jobs():
        for _ in range(3):
            app.tasks["shop.fail"].delay()
            with Batch.create(app=app).jobs():
                app.tasks["shop.add"].delay(1)
    work(app)
    lines = shown(batch, url=file_url)
    assert [line for line in lines if "──" in line] == [
        "  ├── ID  complete  1/1  batch",
        "  ├── ID  complete  1/1  batch",
        "  └── and more: flows list --parent ID",
    ]
    assert lines[-1] == "  and more: flows jobs ID --state failed"


def test_a_tree_has_an_end(app: Celery, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many children there are in all: what is near the top is shown first."""
    monkeypatch.setattr(inside, "_IN_ALL", 3)
    top = Batch.create(app=app)
    below = [Batch.create(parent=top, app=app) for _ in range(2)]
    for one in below:
        Batch.create(parent=one, app=app)
    found = inside.look_inside(database, top.id)
    assert [node.batch.id for node in found.nodes] == [one.id for one in below]
    assert [(len(node.inside.nodes), node.inside.are_more) for node in found.nodes] == [(1, False), (0, True)]


def test_what_is_hidden_stays_so(file_url: str) -> None:
    """The setting redact hides arguments and errors here too."""
    with flows_app(file_url, redact=lambda *_: (["hidden"], {})) as app:
        batch = leaderboard(app)
        [found] = records(here("show", batch.id, "--json", app=app))
        assert {tuple(one["args"]) for one in found["failed_jobs"]} == {("hidden",)}


class Rot13:
    """A codec."""

    def encode(self, text: str) -> str:
        return text[::-1]

    decode = encode


def test_what_is_encrypted(file_url: str) -> None:
    """The app reads it; without the app it is said to be so."""
    with flows_app(file_url, codec=Rot13()) as app:
        batch = leaderboard(app)
        [found] = records(here("show", batch.id, "--json", app=app))
        assert (found["context"], found["failed_jobs"][1]["args"]) == ({"id": 42}, ["broken"])
    [found] = records(here("show", batch.id, "--json", url=file_url))
    assert (found["context"], found["failed_jobs"][1]["args"]) == ("(encrypted)", "(encrypted)")
    assert here("show", batch.id, url=file_url).code == 0


# ---------------------------------------------------------------- ids


def test_ids_may_be_shortened(app: Celery, file_url: str) -> None:
    """To a beginning that only one has, in whatever case; spaces from a copy don't matter."""
    batch = Batch.create(app=app)
    for given in (batch.id, batch.id[:18], batch.id[:18].upper(), f" {batch.id[:20]} "):
        for command in ("show", "explain", "jobs"):
            assert here(command, given, url=file_url).code == 0


def test_a_beginning_of_several_is_refused(app: Celery, file_url: str) -> None:
    """With those that it may mean, the newest first, and exit code 2."""
    made = [Batch.create(app=app).id for _ in range(7)]
    done = here("show", made[0][:6], url=file_url)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: Several batches have an id that begins with")
    assert done.err.endswith(f"{', '.join(made[:1:-1])}, and more. Write more of it.\n")


@pytest.mark.parametrize("given", ["nonsense", "", " ", "\udcff", "%", "x" * 300])
def test_an_id_of_none_is_not_found(app: Celery, file_url: str, given: str) -> None:
    """Exit code 3, and the command that lists which there are; an empty variable means no batch."""
    Batch.create(app=app)
    done = here("show", given, url=file_url)
    assert (done.code, done.out) == (3, "")
    assert done.err.endswith("See which there are: flows list\n")


# ---------------------------------------------------------------- explain


def test_explained(app: Celery, file_url: str) -> None:
    """In lines, for people."""
    done = here("explain", Batch.create(app=app).id, url=file_url)
    assert (done.code, "Its first block has not ended" in done.out) == (0, True)


def test_explained_for_programs(app: Celery, file_url: str) -> None:
    """What it waits for, each with since when and what is next."""
    batch = Batch.create(app=app)
    [found] = records(here("explain", batch.id, "--json", url=file_url))
    [reason] = found["reasons"]
    assert (found["id"], found["state"], found["more"], found["failed_callbacks"]) == (batch.id, "pending", 0, [])
    assert (reason["what"], reason["since"][-1], "Open one" in reason["then"]) == ("batch", "Z", True)
