"""The command watch: it shows changes, and ends as the batch does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from celery import Celery
from commands import here, records
from scenes import add_callback, make_batch, run_job, running_batch

from celery_flows import Batch
from celery_flows.cli import watch as watching
from celery_flows.states import JobState
from celery_flows.store.database import Database


def meanwhile(patch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """What happens between one look and the next, in place of waiting."""
    left = iter(steps)
    patch.setattr(watching.time, "sleep", lambda _: next(left)())


@pytest.mark.parametrize(("outcome", "code"), [(JobState.COMPLETE, 0), (JobState.FAILED, 1)])
def test_a_line_per_change(
    database: Database, file_url: str, monkeypatch: pytest.MonkeyPatch, outcome: JobState, code: int
) -> None:
    """Where there is no terminal; a look that finds nothing new says nothing. It ends as the batch does."""
    batch_id, [job] = running_batch(database)
    child, [childs] = running_batch(database, parent=batch_id)
    add_callback(database, batch_id, "settled")
    meanwhile(
        monkeypatch,
        lambda: run_job(database, childs, child),
        lambda: None,
        lambda: run_job(database, job, batch_id, outcome),
    )
    done = here("watch", batch_id[:18], url=file_url)
    first, second, last = (re.sub(r", \S+ jobs/s(, [\d.]+ \w+ left)?", "", one) for one in done.out.splitlines())
    failed = ", 1 failed" if outcome is JobState.FAILED else ""
    assert (first, second) == (
        "running: 0 of 2 jobs (0 %), 1 child unfinished",
        "running: 1 of 2 jobs (50 %)",
    )
    assert last == f"{outcome}: 2 of 2 jobs (100 %){failed}, 1 callback to run"
    assert (done.code, done.err) == (code, "")


def test_an_object_per_change(database: Database, file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs, with the same in it."""
    batch_id, [job] = running_batch(database)
    meanwhile(monkeypatch, lambda: run_job(database, job, batch_id))
    first, last = records(here("watch", batch_id, "--json", url=file_url))
    assert (first["state"], first["finished"], first["progress"]["pending"]) == ("running", False, 1)
    assert (last["state"], last["finished"], last["progress"]["pending"]) == ("complete", True, 0)
    assert (last["id"], last["left"]) == (batch_id, {"children": 0, "callbacks": 0})


def test_a_failed_batch_with_jobs_to_run_is_watched_on(
    database: Database, file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fate is decided, and it is not finished."""
    batch_id, jobs = running_batch(database, 2)
    run_job(database, jobs[0], batch_id, JobState.FAILED)
    meanwhile(monkeypatch, lambda: run_job(database, jobs[1], batch_id))
    done = here("watch", batch_id, url=file_url)
    assert (done.code, done.out.count("failed: "), "2 of 2" in done.out) == (1, 2, True)


def test_a_batch_without_jobs_yet(database: Database, file_url: str) -> None:
    """Nothing of it is done, rather than all of nothing."""
    done = here("watch", make_batch(database), "--timeout", "0", url=file_url)
    assert (done.code, done.out) == (4, "pending: no jobs\n")


def test_cancelled(app: Celery, file_url: str) -> None:
    """Exit code 5."""
    batch = Batch.create(app=app)
    batch.cancel()
    assert here("watch", batch.id, url=file_url).code == 5


def test_given_up(database: Database, file_url: str) -> None:
    """After its time it says how to see why, and ends with 4; with none it looks once."""
    batch_id, _ = running_batch(database)
    began = time.monotonic()
    done = here("watch", batch_id, "--timeout", "0.1", "--interval", "1h", url=file_url)
    assert (done.code, done.err) == (4, f"It is not finished yet. Why: flows explain {batch_id}\n")
    assert time.monotonic() - began < 30
    assert here("watch", batch_id, "--timeout", "0", url=file_url).code == 4


def test_left_alone(database: Database, file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends the watching with the shell's exit code for it; the batch goes on."""
    batch_id, _ = running_batch(database)

    def press() -> None:
        raise KeyboardInterrupt

    meanwhile(monkeypatch, press)
    done = here("watch", batch_id, url=file_url)
    assert (done.code, done.err) == (130, f"\nThe batch goes on. Watch it again: flows watch {batch_id}\n")
    assert here("watch", batch_id, "--timeout", "0", url=file_url).code == 4


def test_pruned_meanwhile(database: Database, file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is gone is not found."""
    batch_id = make_batch(database)

    def prune() -> None:
        batches = database.tables.batches
        database.transact(lambda connection: connection.execute(batches.delete()))

    meanwhile(monkeypatch, prune)
    assert here("watch", batch_id, url=file_url).code == 3


@pytest.mark.parametrize("words", [("--timeout", "soon"), ("--interval", "")])
def test_no_time(database: Database, file_url: str, words: tuple[str, ...]) -> None:
    """What is no time is refused, and what is one is said."""
    done = here("watch", make_batch(database), *words, url=file_url)
    assert (done.code, "is no time: write seconds, or a number and s, m, h, d or w" in done.err) == (2, True)
