"""Typed tasks: what they take and return are pydantic models."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from apps import flows_app, messages, plain_app, rows, run_message, work
from celery import Celery, chain, group
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from typed_jobs import Document, Enrich, Enriched, enrich, error_of, in_batch, index

from celery_flows import Batch, Orchestration, Sequence, TypedTask, Workflow, current_job, step, typed_task
from celery_flows.errors import BadInput, NotJson, NotTyped


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


@pytest.mark.parametrize(
    "call",
    [
        lambda: enrich.delay(Document(doc_id="a", text="b c", written=dt.date(2026, 1, 2))),
        lambda: enrich.delay({"doc_id": "a", "text": "b c", "written": dt.date(2026, 1, 2)}),
        lambda: enrich.delay(doc_id="a", text="b c", written=dt.date(2026, 1, 2)),
        lambda: enrich.delay({"doc_id": "x"}, doc_id="a", text="b c", written="2026-01-02"),
        lambda: enrich.s(Document(doc_id="a", text="b c", written=dt.date(2026, 1, 2))).delay(),
        lambda: enrich.apply_async((Document(doc_id="a", text="b c", written=dt.date(2026, 1, 2)),)),
    ],
)
def test_ways_of_calling_it(app: Celery, call: Any) -> None:
    """The model, one mapping, or fields by name: the message carries the same, plain, whatever Celery it is."""
    call()
    [message] = messages(app)
    args, kwargs, _ = message.payload
    assert (args, {key: value for key, value in kwargs.items() if value}) == (
        [],
        {"doc_id": "a", "text": "b c", "written": "2026-01-02"},
    )


def test_called_as_a_function(app: Celery) -> None:
    """It takes the model and returns a model, as the function does."""
    found = enrich(Document(doc_id="a", text="b c"))
    assert found == Enriched(words=2, heading="a")
    with pytest.raises(BadInput):
        enrich({"text": "no id"})  # type: ignore[arg-type] # at run time a mapping will do


def test_it_works_outside_of_any_flow_and_app_with_flows() -> None:
    """Nothing but Celery and pydantic is needed."""
    app = plain_app("alone")
    app.set_current()
    assert enrich.apply((Document(doc_id="a", text="b c"),)).get() == {"words": 2, "title": "a"}
    assert enrich.s(doc_id="a").apply().get() == {"words": 0, "title": "a"}
    app.close()


def test_in_a_chain_fields_come_from_the_task_before(app: Celery) -> None:
    """What the task before returned, with what is said in the chain on top."""
    run = Workflow.from_canvas(chain(enrich.s(doc_id="a", text="b c"), index.s(title="mine"))).start()
    work(app)
    assert (run.status, app.flows_test_notes) == ("complete", [("mine", 2)])


def test_bad_input_says_field_rule_and_type(app: Celery) -> None:
    """A job fails at once by what it can't take; the values themselves are not said."""
    name, said = error_of(app, in_batch(enrich, text=["long secret"], written="tomorrow"))
    assert name == "BadInput"
    assert "doc_id: Field required (missing)" in said
    assert "text: Input should be a valid string (string_type, got list)" in said
    assert "written: Input should be a valid date" in said
    assert "secret" not in said


def test_by_position_is_refused_where_it_is_called(app: Celery) -> None:
    """A value that is no mapping names no field; from a task before, it fails the job."""
    with pytest.raises(BadInput, match=r"takes one Document, a mapping, or fields by name.*: str"):
        enrich.delay("a")  # type: ignore[arg-type] # so it is
    run = Workflow.from_canvas(chain(app.tasks["shop.add"].s(1), enrich.s(doc_id="a"))).start()
    work(app)
    assert (run.status, run.failed_jobs[0].error_class) == ("failed", "BadInput")


@typed_task(name="typed.stubborn", autoretry_for=(Exception,), max_retries=3, retry_backoff=False)
def stubborn(document: Document) -> Enriched:
    """Return what it must not."""
    return {"words": "many"}  # type: ignore[return-value] # that is what is wrong with it


def test_bad_input_and_output_are_not_tried_again(app: Celery) -> None:
    """Neither by autoretry nor by a plan's retries: another attempt would be no better."""
    assert error_of(app, in_batch(stubborn, doc_id=1))[0] == "BadInput"
    name, said = error_of(app, in_batch(stubborn, doc_id="a"))
    assert (name, "words: Input should be a valid integer" in said) == ("BadOutput", True)


def test_a_plans_retries_are_not_used_for_it(app: Celery) -> None:
    """A step that is tried again when it raises is not, where what it was given can't be right."""

    class Stepped(Sequence):
        one = step("typed.enrich", retries=3)

    run = Stepped.start(doc_id=1)
    work(app)
    [failed] = run.failed_jobs
    assert (failed.error_class, failed.attempts) == ("BadInput", 1)


@typed_task(name="typed.wrong")
def wrong(document: Document) -> None:
    """Return something."""
    return 7  # type: ignore[return-value] # that is what is wrong with it


@typed_task(name="typed.broken")
def broken(document: Document) -> Enriched:
    """Break a model."""
    found = Enriched(words=1)
    found.title = "longer than ten"
    return found


def test_bad_output(app: Celery) -> None:
    """Something where nothing is declared; and a model that was changed to what it can't be."""
    assert error_of(app, in_batch(wrong, doc_id="a")) == (
        "BadOutput",
        "typed.wrong returned what it must not: a int, though it is declared to return nothing.",
    )
    name, said = error_of(app, in_batch(broken, doc_id="a"))
    assert (name, "string_too_long" in said, "longer" in said) == ("BadOutput", True, False)


class Shy(BaseModel):
    password: SecretStr

    @field_validator("password")
    @classmethod
    def check(cls, value: SecretStr) -> SecretStr:
        raise ValueError(f"{value.get_secret_value()} is too weak")


@typed_task(name="typed.shy")
def shy(shy: Shy) -> None:
    """Refuse everything."""
    raise AssertionError("not called")


def test_an_error_never_says_a_secret(app: Celery) -> None:
    """What a validator of the user's says of a secret field may hold its value."""
    name, said = error_of(app, in_batch(shy, password="hunter2"))
    assert (name, said) == (
        "BadInput",
        "typed.shy can't take what it was called with: password: (value_error, got str).",
    )


@typed_task(name="typed.open")
def open_it(document: Document) -> Document:
    """Read a secret, and hand it on."""
    assert document.token is not None
    assert document.token.get_secret_value() == "hunter2"
    return document


class Reverse:
    """A codec that anybody can see through."""

    def encode(self, text: str) -> str:
        return text[::-1]

    def decode(self, text: str) -> str:
        return text[::-1]


def test_secrets_get_there(app: Celery) -> None:
    """A secret field arrives as it is, where pydantic would write asterisks."""
    batch = in_batch(open_it, Document(doc_id="a", token=SecretStr("hunter2")))
    work(app)
    assert batch.status == "complete"


@pytest.mark.parametrize(
    "given",
    [
        Document(doc_id="a", token=SecretStr("hunter2")),
        {"doc_id": "a", "token": SecretStr("hunter2")},
        {"doc_id": "a", "token": "hunter2"},
    ],
)
def test_messages_hold_no_secret_in_clear(file_url: str, given: Any) -> None:
    """With a codec, what secret fields hold is sealed in messages, rows and memory, and read by who needs it."""
    with flows_app(file_url, codec=Reverse()) as app:
        app.set_current()
        batch = in_batch(open_it, given)
        [message] = messages(app)
        assert "hunter2" not in f"{message.payload} {message.headers}"
        run_message(app, message)
        assert batch.status == "complete"
        assert "hunter2" not in str(batch.memory.read())
        assert "hunter2" not in str(rows(app))
        # What was remembered is read as what it was.
        again = Batch.create(parent=None)
        again.memory.write(batch.memory.read())
        with again.jobs():
            open_it.delay()
        work(app)
        assert again.status == "complete", again.explain()


class Whole(Orchestration):
    """Typed jobs that are called with nothing."""

    def plan(self, doc_id: str, text: str = "none") -> None:
        self.run(enrich)
        self.run(index)


def test_fields_come_from_the_runs_memory(app: Celery) -> None:
    """From what the run was started with, then from what jobs before returned; what a call says goes first."""
    run = Whole.start("a", text="b c d")
    work(app)
    assert (run.status, app.flows_test_notes) == ("complete", [("a", 3)])
    assert run.memory.read("words", "title", "doc_id") == {"words": 3, "title": "a", "doc_id": "a"}


def test_a_run_that_a_worker_plans_remembers_too(app: Celery) -> None:
    """Also what it was started with by position."""
    run = Whole.delay("a", "b")
    work(app)
    assert (run.status, app.flows_test_notes) == ("complete", [("a", 1)])


class Forgetful(BaseModel):
    text: list[str]


@typed_task(name="typed.mutating")
def mutating(document: Document) -> None:
    """Change what it was given."""
    document.text = "changed"
    job = current_job()
    assert job is not None
    assert job.memory.read("text") == {"text": "b c"}


def test_changing_the_input_persists_nothing(app: Celery) -> None:
    """Only what is returned does."""
    batch = Batch.create()
    batch.memory.write(doc_id="a", text="b c")
    with batch.jobs():
        mutating.delay()
    work(app)
    assert (batch.status, batch.memory.read()) == ("complete", {"doc_id": "a", "text": "b c"})


class Declared(TypedTask[Any, Any]):
    name = "typed.declared"
    Input, Output = Document, Enriched

    def run(self, document):  # type: ignore[no-untyped-def] # the class says it
        return {"words": 2}


def test_classes(app: Celery) -> None:
    """By annotations, or by Input and Output; remembering can be left."""
    for cls, kept in ((Enrich, {}), (Declared, {"words": 2, "title": ""})):
        task = app.register_task(cls())
        batch = in_batch(task, Document(doc_id="a"))
        work(app)
        assert (batch.status, batch.memory.read()) == ("complete", kept)


def test_celery_options(app: Celery) -> None:
    """All of Celery's own: the task's class, its time limit, its retries."""

    class Base(app.Task):  # type: ignore[misc, name-defined] # Celery is not typed
        mark = "mine"

    @typed_task(name="typed.optioned", base=Base, soft_time_limit=7, bind=True, max_retries=1)
    def optioned(self: Any, document: Document) -> None:
        assert self.mark == "mine"
        raise self.retry(countdown=0)

    batch = in_batch(optioned, doc_id="a")
    [message] = messages(app)
    assert app.tasks["typed.optioned"].soft_time_limit == 7
    run_message(app, message)
    work(app)
    assert (batch.status, rows(app)[0].attempt) == ("failed", 2)


def test_what_is_no_typed_task() -> None:
    """Refused where it is written, with what to do."""
    with pytest.raises(NotTyped, match="must take one model, and takes 2 parameters"):

        @typed_task  # type: ignore[call-overload] # so it is
        def two(one: Document, other: Document) -> None: ...

    with pytest.raises(NotTyped, match="parameter 'one' must be annotated with a pydantic model"):

        @typed_task  # type: ignore[type-var] # so it is
        def plain(one: int) -> None: ...

    with pytest.raises(NotTyped, match="annotated with what it returns: a pydantic model, or None"):

        @typed_task
        def silent(one: Document): ...  # type: ignore[no-untyped-def] # so it is


def test_what_is_not_json_is_refused_where_it_is_called(app: Celery) -> None:
    """As any argument is."""
    with pytest.raises(NotJson, match=r"typed\.enrich"):
        enrich.delay(doc_id=object())


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    at: dt.datetime
    parts: tuple[int, ...]
    kinds: set[str] = Field(alias="sorts")


@typed_task(name="typed.strict")
def strict(given: Strict) -> Strict:
    """Hand it on."""
    return given


def test_strict_models_pass_through(app: Celery) -> None:
    """JSON's rules are those of strict models: dates are texts there, tuples and sets are lists."""
    given = Strict(at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), parts=(1, 2), sorts={"a"})
    with (batch := Batch.create()).jobs():
        group(strict.s(given), strict.s(given)).apply_async()
    work(app)
    assert batch.status == "complete", batch.failed_jobs[0].error_message


def test_without_pydantic() -> None:
    """It is an extra: the package is imported without it, and the decorator says what to install."""
    script = (
        "import sys; sys.modules['pydantic'] = None\n"
        "from celery_flows import Batch, Template, typed_task\n"
        "from celery_flows.errors import ConfigurationError\n"
        "try:\n    typed_task(lambda one: None)\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'celery-flows[typed]'" in said.stdout
