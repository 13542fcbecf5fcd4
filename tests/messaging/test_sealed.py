"""With a codec nobody reads users' data in the database; with a redaction nobody reads it in lists."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from apps import flows_app, notes_of, runtime_of, work
from celery import Celery
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy.exc import DBAPIError

from celery_flows import Batch
from celery_flows.errors import InvalidSetting
from celery_flows.store import jobs

#: What must not be readable.
SECRET = "4111-1111"

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


class FernetCodec:
    """As docs/howto/encryption.md has it: the first key encrypts, and all of them decrypt."""

    def __init__(self, *keys: bytes) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def encode(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def decode(self, text: str) -> str:
        return self._fernet.decrypt(text.encode()).decode()


def secretive(app: Celery) -> None:
    """Tasks that are given secrets, and tell them."""

    @app.task(name="shop.pay", shared=False, bind=True, max_retries=1)
    def pay(self: Any, card: str, how: str = "well", *, note: str = "") -> None:
        if how == "badly":
            raise ValueError(f"no such card: {card}")
        if how == "again" and not self.request.retries:
            raise self.retry(countdown=0)
        app.tasks["shop.note"](card, note)


def run_batch(app: Celery) -> Batch:
    """A batch with a success, a failure, a retry and callbacks, all of which hold secrets."""
    secretive(app)
    pay = app.tasks["shop.pay"]
    batch = Batch.create(app=app, context={"card": SECRET}, tolerate=1)
    batch.on("settled", app.signature("shop.note", (SECRET,), {"note": SECRET}))
    with batch.jobs():
        pay.apply_async((SECRET,), {"note": SECRET}, headers={"card": SECRET})
        pay.delay(SECRET, "badly")
        pay.delay(SECRET, "again")
    work(app)
    return batch


def everything(app: Celery) -> str:
    """All that the tables hold, as a thief would read it."""
    database, found = runtime_of(app).database, []
    with database.engine.connect() as connection:
        for table in database.tables.metadata.sorted_tables:
            found += connection.execute(sa.text(f"SELECT * FROM {table.name}")).all()
    return repr(found)


def test_nothing_is_readable_in_any_column(database_url: str) -> None:
    """Arguments, options, context and errors, after failures, retries and callbacks; the program reads all."""
    with flows_app(database_url, codec=FernetCodec(NEW)) as app:
        batch = run_batch(app)
        assert SECRET not in everything(app)
        assert batch.status == "complete"
        assert batch.context == {"card": SECRET}
        [failed] = batch.failed_jobs
        assert (failed.args, failed.error_message) == ([SECRET, "badly"], f"no such card: {SECRET}")
        assert (batch.id, SECRET, {"note": SECRET}) in notes_of(app)


@pytest.mark.parametrize("codec", [None, FernetCodec(NEW)], ids=["plain", "sealed"])
def test_a_job_has_all_its_retries_again(database_url: str, codec: FernetCodec | None) -> None:
    """What Celery counted in the last round is found in the next one, though nobody can read it in the column."""
    with flows_app(database_url, codec=codec) as app:
        tries: list[int] = []

        @app.task(name="shop.stubborn", shared=False, bind=True, max_retries=2)
        def stubborn(self: Any) -> None:
            tries.append(self.request.retries)
            raise self.retry(countdown=0, exc=ValueError("no"))

        batch = Batch.create(app=app)
        with batch.jobs():
            stubborn.delay()
        work(app)
        batch.retry()
        work(app)
        assert tries == [0, 1, 2, 0, 1, 2]


def test_without_a_codec_everything_is_readable(database_url: str) -> None:
    """So that the test above could fail."""
    with flows_app(database_url) as app:
        run_batch(app)
        assert everything(app).count(SECRET) >= 8


def test_what_was_written_before_the_codec_stays_readable(database_url: str) -> None:
    """A codec may be set on a database in use: jobs enrolled before it run after it."""
    with flows_app(database_url) as app:
        before = Batch.create(app=app, context={"card": SECRET})
        with before.jobs():
            app.tasks["shop.fail"].delay(SECRET)
        work(app)
    with flows_app(database_url, codec=FernetCodec(NEW)) as app:
        again = Batch.get(before.id, app=app)
        assert again.context == {"card": SECRET}
        [failed] = again.failed_jobs
        assert (failed.args, failed.error_message) == ([SECRET], SECRET)


def test_keys_can_be_changed(database_url: str) -> None:
    """The new key in front encrypts, the old one behind it still decrypts; alone the new one does not."""
    with flows_app(database_url, codec=FernetCodec(OLD)) as app:
        batch = Batch.create(app=app, context=SECRET)
        with batch.jobs():
            app.tasks["shop.fail"].delay(SECRET)
    with flows_app(database_url, codec=FernetCodec(NEW, OLD)) as app:
        found = Batch.get(batch.id, app=app)
        assert found.context == SECRET
        assert [job.args for job in found.pending_jobs] == [[SECRET]]
        later = Batch.create(app=app, context=SECRET)
    with flows_app(database_url, codec=FernetCodec(NEW)) as app:
        assert Batch.get(later.id, app=app).context == SECRET
        with pytest.raises(InvalidToken):
            _ = Batch.get(batch.id, app=app).context


def test_redacted_arguments_are_hidden_in_lists_and_given_to_tasks(file_url: str) -> None:
    """Whoever lists jobs sees what the function leaves; the job itself gets what it was called with."""

    def redact(task: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return [f"{task} ***", *args[1:]], dict.fromkeys(kwargs, "***")

    with flows_app(file_url, redact=redact) as app:
        batch = run_batch(app)
        listed = [*batch.completed_jobs, *batch.failed_jobs[:1], batch.completed_jobs[0]]
        assert {job.args[0] for job in listed} == {"shop.pay ***"}
        assert {"note": "***"} in [job.kwargs for job in listed]
        assert (SECRET, SECRET) in notes_of(app)


class Redaction:
    """Hides what errors say, and leaves arguments alone."""

    def error(self, task: str, message: str) -> str:
        """Hide it."""
        return f"{task}: {message.replace(SECRET, '***')}"


def test_redacted_errors_are_hidden_in_lists(file_url: str) -> None:
    """An object with a method for errors is asked for each that is shown."""
    with flows_app(file_url, redact=Redaction()) as app:
        batch = Batch.create(app=app)
        with batch.jobs():
            app.tasks["shop.fail"].delay(f"not with {SECRET}")
        work(app)
        [job] = batch.failed_jobs
        assert (job.error_message, job.args) == ("shop.fail: not with ***", [f"not with {SECRET}"])


def test_a_redaction_that_is_none_is_refused(file_url: str) -> None:
    """Where jobs are shown it says what it must be."""
    with flows_app(file_url, redact=7) as app:
        batch = Batch.create(app=app)
        with pytest.raises(InvalidSetting, match="arguments"):
            _ = batch.failed_jobs


def test_database_errors_tell_no_arguments(file_url: str) -> None:
    """What a statement was given is users' data, and errors end up in logs."""
    with flows_app(file_url) as app:
        batch = Batch.create(app=app)
        database = runtime_of(app).database
        with database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE flows_jobs RENAME TO gone")
        try:
            with pytest.raises(DBAPIError) as caught, batch.jobs():
                app.tasks["shop.note"].delay(SECRET)
            assert SECRET not in str(caught.value)
            with pytest.raises(DBAPIError) as caught:
                database.run(jobs.probe, batch_id=SECRET)
            assert SECRET not in str(caught.value)
        finally:
            with database.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE gone RENAME TO flows_jobs")
