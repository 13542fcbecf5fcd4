"""The command list: which batches are shown, in what order, and page by page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from apps import counting
from commands import Done, here, records
from scenes import make_batch, run_job, running_batch

from celery_flows.cli import listing
from celery_flows.cli.output import Output
from celery_flows.codec import encode
from celery_flows.ids import beginning_at
from celery_flows.states import JobState
from celery_flows.store.database import Database


def listed(database: Database, *words: str) -> Done:
    """Run the command."""
    return here("list", *words, url=str(database.url))


def ids(database: Database, *words: str) -> list[str]:
    """The ids that it says."""
    return [one["id"] for one in records(listed(database, *words, "--json"))]


def made_ago(database: Database, days: float) -> str:
    """A batch that was made so many days ago."""
    moment = datetime.now(UTC) - timedelta(days=days)
    batch_id = make_batch(database, id=f"{beginning_at(moment)}-7000-8000-{int(days):012d}")
    batches = database.tables.batches
    made = sa.update(batches).where(batches.c.id == batch_id).values(created_at=moment)
    database.transact(lambda connection: connection.execute(made))
    return batch_id


def test_a_table_for_people(database: Database) -> None:
    """The newest first, with whole ids where there is no terminal."""
    failed, [one, _] = running_batch(database, 2, description="Rescore", tags=encode(["nightly", "csv"]))
    run_job(database, one, failed, JobState.FAILED)
    flow = make_batch(database, kind="sequence")
    done = listed(database)
    assert (done.code, done.err) == (0, "")
    title, *lines = [re.sub(r" {2,}\d+s ", "  ", line) for line in done.out.splitlines()]
    assert title.split() == ["ID", "STATE", "DONE", "FAILED", "AGE", "KIND", "DESCRIPTION", "TAGS"]
    assert lines == [
        f"{flow}  pending               0/0       0   sequence  -            -",
        f"{failed}  failed (unfinished)   1/2       1   batch     Rescore      nightly, csv",
    ]


def test_ids_are_short_on_a_terminal(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of each as tells it from the others, and as other commands take it."""
    made = [make_batch(database) for _ in range(3)][::-1]
    monkeypatch.setattr(Output, "is_terminal", True)
    shown = [line.split()[0] for line in listed(database).out.splitlines()[1:]]
    assert (shown, len(set(shown))) == ([one[:18] for one in made], 3)


def test_a_canvas_is_called_by_its_description_only(database: Database) -> None:
    """The class that runs it is ours; a flow without a description is called by its class."""
    make_batch(database, kind="canvas", flow="celery_flows.canvas.CanvasFlow")
    make_batch(database, kind="canvas", flow="celery_flows.canvas.CanvasFlow", description="Night")
    make_batch(database, kind="workflow", flow="shop.Gallery")
    assert [line.split()[-1] for line in listed(database).out.splitlines()[1:]] == ["shop.Gallery", "Night", "-"]


def test_an_object_per_batch_for_programs(database: Database) -> None:
    """With all that is known of it, and how far it is."""
    batch_id, _ = running_batch(database, 2, description="Rescore", context=encode({"a": [1]}), batch_key="k")
    [found] = records(listed(database, "--json"))
    assert (found["id"], found["state"], found["key"], found["context"]) == (batch_id, "running", "k", {"a": [1]})
    assert (found["progress"]["total"], found["progress"]["pending"]) == (2, 2)
    assert datetime.fromisoformat(found["created_at"]).utcoffset() == timedelta(0)
    assert found["created_at"].endswith("Z")


def test_nothing(database: Database) -> None:
    """People are told, programs get no line; a kind that may be a slip is answered with those there are."""
    assert listed(database) == (0, "", "There are no batches.\n")
    assert listed(database, "--json") == (0, "", "")
    assert listed(database, "--tag", "x") == (0, "", "No batch fits.\n")
    assert "sequence, orchestration" in listed(database, "--kind", "sequenec").err


def test_filters(database: Database) -> None:
    """By state, kind, description and tag, together or apart."""
    done, [job] = running_batch(database, description="Rescore 42 %", tags=encode(["red"]))
    run_job(database, job, done)
    runs, _ = running_batch(database, description="rescore 43", tags=encode(["red", "blue"]))
    flow = make_batch(database, kind="sequence", description="Import")
    assert ids(database, "--state", "running") == [runs]
    assert ids(database, "--state", "complete") == [done]
    assert ids(database, "--state", "pending") == [flow]
    assert ids(database, "--kind", "sequence") == [flow]
    assert ids(database, "--description", "RESCORE") == [runs, done]
    assert ids(database, "--description", "%") == [done]
    assert ids(database, "--tag", "red") == [runs, done]
    assert ids(database, "--tag", "red", "--description", "43") == [runs]


def test_by_age(database: Database) -> None:
    """Since and before when it was made, by the database's clock."""
    old, week, new = made_ago(database, 30), made_ago(database, 7), make_batch(database)
    assert ids(database, "--newer-than", "8d") == [new, week]
    assert ids(database, "--older-than", "8d") == [old]
    assert ids(database, "--newer-than", "4w", "--older-than", "1h") == [week]


def test_by_family(database: Database) -> None:
    """The children of one, which may be named by the beginning of its id, or those that are nobody's child."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    assert ids(database) == [child, parent]
    assert ids(database, "--top") == [parent]
    assert ids(database, "--parent", parent[:18]) == [child]


def test_page_by_page(database: Database) -> None:
    """Each page goes on behind the last of the one before, and says how."""
    made = [make_batch(database) for _ in range(5)][::-1]
    first = listed(database, "--limit", "2")
    assert first.err == f"There are more: --after {made[1]}\n"
    assert ids(database, "--limit", "2", "--after", made[1]) == made[2:4]
    last = listed(database, "--limit", "2", "--after", made[3])
    assert (made[4] in last.out, last.err) == (True, "")
    assert listed(database, "--after", made[4]) == (0, "", "No more batches fit.\n")


def test_a_page_costs_a_query_and_one_per_batch(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many batches there are."""
    for _ in range(5):
        make_batch(database)
    counted = counting(database)
    out = listing.Output(listing.click.Context(listing.list_batches))
    listing._list(database, listing.Wanted(), 3, out)
    assert counted() == 1 + 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--state", "done"), "'pending', 'running', 'complete'"),
        (("--newer-than", "soon"), "such as 30d"),
        (("--limit", "0"), "0 is not in the range"),
    ],
)
def test_used_wrongly(database: Database, words: tuple[str, ...], said: str) -> None:
    """What was wrong is said, and what would be right."""
    done = listed(database, *words)
    assert (done.code, done.out, said in done.err) == (2, "", True)


def test_a_page_behind_nothing(database: Database) -> None:
    """An id that is not there is not found, here as everywhere."""
    done = listed(database, "--after", "feed")
    assert (done.code, done.err.count("\n"), "flows list" in done.err) == (3, 1, True)


def test_a_database_that_is_away() -> None:
    """One line without the password, and exit code 6."""
    done = here("list", url="postgresql+psycopg://me:secret@127.0.0.1:1/shop")
    assert (done.code, done.out, done.err.count("\n"), "secret" in done.err) == (6, "", 1, False)


def test_no_tables(tmp_path: Path) -> None:
    """How they are made, and exit code 1."""
    done = here("list", url=f"sqlite:///{tmp_path / 'none.sqlite3'}")
    assert (done.code, done.out, "celery-flows --database-url URL upgrade" in done.err) == (1, "", True)
