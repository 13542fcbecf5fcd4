"""Text: what can't be stored is made safe before it reaches a column, and keys are compared byte by byte."""

from __future__ import annotations

import json

import pytest
from scenes import call, enroll_jobs, make_batch, row, run_job, running_batch, state_of

from celery_flows.codec import encode, safe_text
from celery_flows.ids import new_id
from celery_flows.queries.batches import batch, batches
from celery_flows.queries.jobs import JobList
from celery_flows.states import Event, JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.claim import claim
from celery_flows.transitions.listen import NewCallback, listen
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import abandon_stream, open_stream

#: What databases choke on (NUL, a lone surrogate), and what they must give back as it is.
NASTY = "nul \x00, lone \ud800, \U0001f40d, Ünïcode, 'quote', \"quote\", back\\slash, %(percent)s, :colon \n"

#: The same text where it is not JSON.
SAFE = NASTY.replace("\x00", "\ufffd").replace("\ud800", "?")


def test_a_batch_gives_back_what_was_put_in(database: Database) -> None:
    """JSON keeps every character, also those that no column takes; plain text keeps all but those."""
    context = {NASTY: [NASTY]}
    batch_id = make_batch(
        database, description=safe_text(NASTY), context=encode(context), tags=encode([NASTY, "other"])
    )
    found = batch(database, batch_id)
    assert (found.description, found.context, found.tags) == (SAFE, context, [NASTY, "other"])


def test_a_job_gives_back_what_was_put_in(database: Database) -> None:
    """Arguments are JSON; an error's class and message are made safe when the outcome is written."""
    batch_id = make_batch(database)
    texts = {"args": encode([NASTY]), "kwargs": encode({"x": NASTY}), "options": encode({"q": NASTY})}
    given = call(batch_id)._replace(**texts)
    [job_id] = enroll_jobs(database, batch_id, [given])
    claim(database, job_id, 1, "t")
    settle(database, Ending(job_id, JobState.FAILED, NASTY, NASTY, 1, "t"), batch_id=batch_id)
    [found] = JobList(database, batch_id, [JobState.FAILED])
    assert (found.args, found.kwargs) == ([NASTY], {"x": NASTY})
    assert (found.error_class, found.error_message) == (SAFE, SAFE)
    assert json.loads(row(database, job_id).options) == {"q": NASTY}


def test_a_retry_and_a_callback_give_back_what_was_put_in(database: Database) -> None:
    """The other ways in which a message is written down."""
    batch_id, [job_id] = running_batch(database)
    texts = (encode([NASTY]), encode({"x": NASTY}), encode({"q": NASTY}))
    callback = NewCallback(new_id(), batch_id, Event.SETTLED, "shop.tell", *texts)
    database.transact(listen, database.tables, callback)
    claim(database, job_id, 1, "t")
    retry_job(database, NextAttempt(job_id, 1, "t", "shop.score", *texts))
    for found in (row(database, callback.id), row(database, job_id)):
        assert (found.args, found.kwargs, found.options) == texts


def test_an_abandoned_block_says_why(database: Database) -> None:
    """Whatever a producer died of can be written down."""
    batch_id, block = make_batch(database), new_id()
    database.transact(open_stream, database.tables, block, batch_id, starts=True)
    abandon_stream(database, block, batch_id, NASTY)
    assert SAFE in row(database, block).error_message


def test_a_long_error_is_kept_and_a_long_class_name_cut(database: Database) -> None:
    """Neither costs a job its outcome: messages have no limit that matters, names end where their column does."""
    batch_id, [job_id] = running_batch(database)
    claim(database, job_id, 1, "t")
    settle(database, Ending(job_id, JobState.FAILED, "E" * 300, "m" * 200_000, 1, "t"), batch_id=batch_id)
    found = row(database, job_id)
    assert (found.error_class, found.error_message) == ("E" * 255, "m" * 200_000)


@pytest.mark.parametrize("twins", [("key", "KEY"), ("key", "key "), ("key", "ke\u0301y"), ("straße", "strasse")])
def test_ids_are_compared_byte_by_byte(database: Database, twins: tuple[str, str]) -> None:
    """Ids that look alike are different jobs of different batches: what happens to one leaves the other alone."""
    for twin in twins:
        make_batch(database, id=f"batch {twin}", tolerate="50%")
        enroll_jobs(database, f"batch {twin}", [call(f"batch {twin}", twin)])
    one, other = twins
    assert run_job(database, one, f"batch {one}") == []
    assert state_of(database, one) is JobState.COMPLETE
    assert state_of(database, other) is JobState.READY
    assert [len(JobList(database, f"batch {twin}", None)) for twin in twins] == [0, 1]
    assert batch(database, f"batch {other}").settled_at is None


def test_tags_are_compared_byte_by_byte(database: Database) -> None:
    """A tag finds batches with exactly it: not another case, not a part of it, and no wildcard."""
    for tags in (["import"], ["IMPORT"], ["re-import"], ["100%"], ["100_"], ["a_b"], [NASTY]):
        make_batch(database, tags=encode(tags))

    def found(tag: str) -> list[list[str]]:
        return [record.tags for record in batches(database, tag=tag)]

    assert found("import") == [["import"]]
    assert found("100%") == [["100%"]]
    assert found("%") == found("_") == found("") == []
    assert found("a_b") == [["a_b"]]
    assert found(NASTY) == [[NASTY]]
