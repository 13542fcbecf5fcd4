"""Typed tasks: models with aliases, computed fields, secrets inside, or no fields at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import flows_app, work
from celery import Celery
from pydantic import BaseModel, ConfigDict, RootModel, SecretStr, computed_field, field_validator
from typed_jobs import Document, Enrich, Enriched, Title, error_of, in_batch, index
from typing_extensions import TypedDict

from celery_flows import Batch, Orchestration, current_job, typed_task
from celery_flows.errors import BadInput, NotTyped


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


class Plainest(BaseModel):
    model_config = ConfigDict(extra="forbid")


@typed_task(name="typed.plainest")
def plainest(nothing: Plainest) -> None:
    """Take nothing."""


def test_a_model_without_fields_asks_for_nothing(app: Celery) -> None:
    """What else the run remembers is not given to it."""
    batch = Batch.create()
    batch.memory.write(a=1)
    with batch.jobs():
        plainest.delay()
    work(app)
    assert batch.status == "complete", batch.failed_jobs[0].error_message


@typed_task(name="typed.take")
def take(found: Enriched) -> None:
    """Say what it was given."""
    job = current_job()
    assert job is not None
    job.memory.write(taken=found.title)


def test_what_is_given_goes_first_by_any_name(app: Celery) -> None:
    """A field that is remembered by its alias, and given by its name, is as given; and the other way round."""
    for remembered, given in (("heading", "title"), ("title", "heading")):
        batch = Batch.create()
        batch.memory.write({remembered: "old", "words": 1})
        with batch.jobs():
            take.delay({given: "new"})
            take.delay({remembered: "older"}, **{given: "new"})
        work(app)
        assert (batch.status, batch.memory.read("taken")) == ("complete", {"taken": "new"})


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sides: list[Enriched] = []

    @computed_field  # type: ignore[prop-decorator] # so pydantic says
    @property
    def size(self) -> int:
        return len(self.sides)


class Holding(BaseModel):
    inner: Computed


@typed_task(name="typed.hold")
def hold(given: Holding) -> Holding:
    """Hand it on."""
    return given


def test_what_a_model_computes_is_not_sent(app: Celery) -> None:
    """It is no field: a model that allows no others takes what was made of itself, by name too."""
    with (batch := Batch.create()).jobs():
        hold.delay(Holding(inner=Computed()))
        hold.delay(inner=Computed(sides=[Enriched(words=1)]))
    work(app)
    assert batch.status == "complete", batch.failed_jobs[0].error_message


def test_a_base_with_a_call_of_its_own(app: Celery) -> None:
    """What it does around a task is done around a typed one too, for a message and for a call."""
    around: list[str] = []

    class Within(app.Task):  # type: ignore[misc, name-defined] # Celery is not typed
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            around.append(type(args[0]).__name__)
            return self.run(*args, **kwargs)

    @typed_task(name="typed.within", base=Within)
    def within(document: Document) -> Enriched:
        return Enriched(words=len(around))

    batch = in_batch(within, doc_id="a")
    work(app)
    assert (batch.status, batch.memory.read("words")) == ("complete", {"words": 1})
    assert (within(Document(doc_id="b")).words, around) == (2, ["Document", "Document"])


class Longer(Enrich):
    name = "typed.longer"

    def run(self, document: Title) -> None:  # type: ignore[override] # another contract
        self.app.flows_test_notes.append(document.title)


def test_a_subclass_may_say_other_models(app: Celery) -> None:
    """The annotations of its own `run` hold, and not those that it inherits."""
    with (batch := Batch.create()).jobs():
        app.register_task(Longer()).delay(Title(title="a", words=1))
    work(app)
    assert (batch.status, app.flows_test_notes) == ("complete", ["a"])


def test_a_model_of_one_value_is_refused(app: Celery) -> None:
    """It has no fields, so nothing of it has a name."""
    with pytest.raises(NotTyped, match="pydantic model"):

        @typed_task
        def root(numbers: RootModel[list[int]]) -> None: ...


def test_a_typed_callback(app: Celery) -> None:
    """It is not given the batch's id, which is no field: its fields are what the run remembers."""
    batch = Batch.create()
    batch.on("complete", index)
    batch.on("complete", index.s(title="mine"))
    batch.memory.write(title="a", words=2)
    with batch.jobs():
        plainest.delay()
    work(app)
    assert sorted(app.flows_test_notes) == [("a", 2), ("mine", 2)]


class ByPosition(Orchestration):
    def plan(self, given: Any) -> None:
        self.run(plainest, given)


def test_by_position_is_refused_where_it_is_planned(app: Celery) -> None:
    """As any call with wrong arguments; a mapping or a model is none."""
    with pytest.raises(BadInput, match="not by position: int"):
        ByPosition.start(5)
    assert Batch.list() == []
    runs = [ByPosition.start({}), ByPosition.start(Plainest())]
    work(app)
    assert [run.status for run in runs] == ["complete", "complete"]


class TwoSecrets(TypedDict):
    key: SecretStr


class Deep(BaseModel):
    keys: list[TwoSecrets]

    @field_validator("keys")
    @classmethod
    def check(cls, value: Any) -> Any:
        raise ValueError(f"{value[0]['key'].get_secret_value()} is too weak")


@typed_task(name="typed.deep")
def deep(given: Deep) -> None:
    """Refuse everything."""


def test_an_error_never_says_a_secret_inside(app: Celery) -> None:
    """Nor where it is within a list, a typed dict or the like."""
    _, said = error_of(app, in_batch(deep, keys=[{"key": "hunter2"}]))
    assert "value_error" in said
    assert "hunter2" not in said


class Leaky(BaseModel):
    password: SecretStr


@typed_task(name="typed.leaky")
def leaky(given: Plainest) -> Leaky:
    """Put a text where a secret should be."""
    found = Leaky(password=SecretStr(""))
    found.password = "hunter2"  # type: ignore[assignment] # that is what is wrong with it
    return found


def test_a_text_in_place_of_a_secret(app: Celery) -> None:
    """It is no such thing: the job fails, and neither an error nor a warning says it."""
    name, said = error_of(app, in_batch(leaky))
    assert (name, "hunter2" in said, said.endswith("instead.")) == ("BadOutput", False, True)


class Mutated(BaseModel):
    words: int = 0


@typed_task(name="typed.mutated")
def mutated(given: Plainest) -> Mutated:
    """Put a text where a number should be."""
    found = Mutated()
    found.words = "hunter2"  # type: ignore[assignment] # that is what is wrong with it
    return found


def test_a_model_that_was_changed_to_what_it_can_not_be(app: Celery) -> None:
    """The job fails by it; pydantic's warning, which says the value, is not given."""
    name, said = error_of(app, in_batch(mutated))
    assert (name, "words: Input should be a valid integer" in said, "hunter2" in said) == (
        "BadOutput",
        True,
        False,
    )
