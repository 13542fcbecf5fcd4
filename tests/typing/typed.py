"""Users' code with typed tasks: `mypy --strict` sees the models, and a wrong one is an error."""

from __future__ import annotations

from typing import Any, assert_type

from celery import Celery, chain
from pydantic import BaseModel

from celery_flows import (
    Flows,
    Orchestration,
    Sequence,
    Template,
    TypedTask,
    Workflow,
    current_job,
    step,
    typed_task,
)
from celery_flows.plan import Node

app = Celery("shop")
flows = Flows(app, database_url="sqlite://", merges={"words": "sum"})


class Document(BaseModel):
    """What a task takes."""

    doc_id: str
    text: str = ""


class Enriched(BaseModel):
    """What it returns."""

    words: int


class Other(BaseModel):
    """What it does not take."""

    words: int


@typed_task
def enrich(document: Document) -> Enriched:
    """Take one model, return another."""
    return Enriched(words=len(document.text.split()))


@typed_task(bind=True, max_retries=3, remember="job")
def index(self: Any, found: Enriched) -> None:
    """With options, bound, and returning nothing."""
    self.job.memory.write({"words": found.words}, indexed=True)


@typed_task  # type: ignore[type-var] # no model
def plain(number: int) -> None:
    """Nothing of pydantic."""


class Enrich(TypedTask[Document, Enriched]):
    """A class."""

    def run(self, document: Document) -> Enriched:
        """Read other attributes of Celery's."""
        return Enriched(words=int(self.request.retries))


@app.task  # type: ignore[untyped-decorator] # Celery's is
def tell(word: str) -> None:
    """A task like any other."""


document = Document(doc_id="a")
assert_type(enrich, TypedTask[Document, Enriched])
assert_type(index, TypedTask[Enriched, None])
assert_type(enrich(document), Enriched)
assert_type(enrich({"doc_id": "a"}, text="b"), Enriched)
assert_type(enrich(doc_id="a"), Enriched)
assert_type(Enrich()(document), Enriched)

enrich(Other(words=1))  # type: ignore[call-overload] # a wrong model
enrich("a")  # type: ignore[call-overload] # by position
enrich.delay(document)
enrich.delay({"doc_id": "a"}, text="b")
enrich.delay(doc_id="a")
enrich.delay()
enrich.delay(Other(words=1))  # type: ignore[arg-type] # a wrong model
enrich.delay("a")  # type: ignore[arg-type] # by position
chain(enrich.s(document), index.s(), enrich.si({"doc_id": "a"}))
enrich.s(Other(words=1))  # type: ignore[arg-type] # a wrong model
enrich.si(Other(words=1))  # type: ignore[arg-type] # a wrong model
enrich.apply_async((document,), countdown=5)


class Form(Sequence):
    """Steps of each sort."""

    create = step(enrich)
    again = step(Enrich())
    given = step(enrich.s(document), queue="slow", expires=5)
    wrong = step(enrich.s(Other(words=1)))  # type: ignore[arg-type] # a wrong model
    called = step(enrich(document))  # type: ignore[arg-type] # what it returns, and not the task
    plain = step(tell)
    named = step("shop.tell", countdown=3)
    chained = step(chain(tell.s("a"), tell.si("b")))


class Inner(Orchestration):
    """Typed jobs in series and in parallel."""

    def plan(self, doc_id: str) -> None:
        """Say what is run."""
        assert_type(self.run(enrich), Node)
        self.run(enrich, document)
        self.run(enrich, {"doc_id": doc_id}, text="b")
        self.run(enrich, doc_id=doc_id)
        self.run(enrich, Other(words=1))  # type: ignore[misc] # a wrong model
        self.run(enrich, doc_id)  # type: ignore[call-overload] # by position
        self.run(enrich, document, document)  # type: ignore[call-overload] # one at most
        self.run(enrich.s(document).set(queue="slow"))
        self.run(Enrich(), document)
        self.run(tell, "a")
        self.run("shop.tell", "a", word="b")
        self.run(chain(tell.s("a"), tell.si("b")))
        self.run(Form, name="a")


class Outer(Workflow):
    """Typed jobs in a graph."""

    def plan(self, doc_ids: list[str]) -> None:
        """Say what is run."""
        found = [self.run(enrich, Document(doc_id=one), name=one) for one in doc_ids]
        inner = self.run(Inner.s("a"), after=found, when="settled")
        last = self.run(index, after=[found, inner], queue="slow", countdown=1)
        assert_type(last, Node)
        self.run(enrich, {"doc_id": "a"}, after=last, text="b")
        self.run(index, document, after=last)  # type: ignore[misc] # a wrong model
        self.run(index, after=7)  # type: ignore[call-overload] # no job
        self.run(tell, "a", "b", after=last, word="c")
        self.run("shop.tell", after=last)
        self.run(Form, after=last, name="form")
        self.run(document)  # type: ignore[call-overload] # nothing that can be run


@Template.register("enrich", input=Document, defaults={"text": "none"})
def build(params: Document) -> object:
    """Give a flow."""
    return Inner.s(params.doc_id)


def build_other(params: Other) -> object:
    """Take another model than the template gives."""
    return Inner.s(str(params.words))


Template.register("other", build_other, input=Other)
Template.register("other", build_other, input=Document)  # type: ignore[arg-type] # a wrong model
Template.register("other", input=Document)(build_other)  # type: ignore[arg-type] # a wrong model

assert_type(build(document), object)
words: list[object] = [*Template.run("enrich", {"doc_id": "a"}, text="b").memory.read()]
names: list[str] = Template.names()
job = current_job()
assert job is not None
kept: dict[str, Any] = job.memory.of("one").read("words")
