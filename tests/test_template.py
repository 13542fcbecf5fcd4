"""Templates: flows that are started by name, with params that are checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import flows_app, rows, work
from celery import Celery, chain
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from celery_flows import Batch, Orchestration, Template, Workflow, current_job, typed_task
from celery_flows.errors import BadParams, ConfigurationError, PlanInvalid, TemplateExists, UnknownTemplate
from celery_flows.template import describe, read_texts


class Order(BaseModel):
    """What the templates here take."""

    doc_id: str
    times: int = 1


class Noting(Orchestration):
    def plan(self, doc_id: str, times: int = 1) -> None:
        for _ in range(times):
            self.run("shop.note", doc_id)


@pytest.fixture
def app(file_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app that flows find, and no template but a test's own."""
    monkeypatch.setattr(Template, "_known", {})
    monkeypatch.setattr(Template, "_loaded", {})
    with flows_app(file_url) as app:
        app.set_current()
        yield app


def noting(order: Order) -> Any:
    """A builder."""
    return Noting.s(order.doc_id, times=order.times)


def test_registered_by_a_call_and_run(app: Celery) -> None:
    """Params come from a mapping, from a model, and by name, which goes first; the run remembers them."""
    assert Template.register("note", noting, input=Order, defaults={"times": 2}) is noting
    run = Template.run("note", {"doc_id": "a"})
    work(app)
    assert (type(run), run.status, app.flows_test_notes) == (Noting, "complete", [("a",), ("a",)])
    assert (run.description, run.memory.read()) == ("note", {"doc_id": "a", "times": 2})
    assert len(Template.run("note", Order(doc_id="b"), times="3").pending_jobs) == 3
    assert len(Template.run("note", Order(doc_id="b")).pending_jobs) == 2
    assert Template.names() == ["note"]


def test_registered_by_a_decorator(app: Celery) -> None:
    """A builder may give a flow class, a canvas, or what starts one."""

    class Plain(BaseModel): ...

    class Known(Workflow):
        def plan(self) -> None:
            self.run("shop.note", 1)

    @Template.register("class", input=Plain)
    def _class(params: Plain) -> Any:
        return Known

    @Template.register("chain", input=Plain)
    def _chain(params: Plain) -> Any:
        return chain(app.tasks["shop.add"].s(1, 2), app.tasks["shop.note"].s())

    @Template.register("canvas", input=Plain)
    def _canvas(params: Plain) -> Any:
        return Workflow.from_canvas(app.tasks["shop.note"].s("canvas"))

    for name in ("class", "chain", "canvas"):
        Template.run(name)
    work(app)
    assert sorted(map(str, app.flows_test_notes)) == ["('canvas',)", "(1,)", "(3,)"]


def test_bad_params_write_nothing(app: Celery) -> None:
    """They are checked before anything else is done; field, rule and type are said."""
    Template.register("note", noting, input=Order)
    with pytest.raises(BadParams, match=r"doc_id: Field required \(missing\); times: .*int_parsing, got str"):
        Template.run("note", times="many")
    with pytest.raises(BadParams, match="params are a mapping or a Order, not 'a'"):
        Template.run("note", "a")
    assert (Batch.list(), rows(app)) == ([], [])


def test_unknown_names(app: Celery) -> None:
    """The nearest names are said, or all, or that there is none."""
    with pytest.raises(UnknownTemplate, match=r"no template named 'order', nor any other\."):
        Template.run("order")
    Template.register("enrich_and_index", noting, input=Order)
    with pytest.raises(UnknownTemplate, match=r"'enrich_index' \(did you mean 'enrich_and_index'\?\)"):
        Template.run("enrich_index")
    with pytest.raises(UnknownTemplate, match=r"'order' among \['enrich_and_index'\]"):
        Template.run("order")


def test_registering_twice_is_refused(app: Celery) -> None:
    """Unless it is said to be meant."""
    Template.register("note", noting, input=Order)
    with pytest.raises(TemplateExists, match=r"made by .*noting.*replace=True"):
        Template.register("note", noting, input=Order)
    Template.register("note", noting, input=Order, defaults={"times": 5}, replace=True)
    assert Template.get("note").defaults == {"times": 5}


def test_a_default_for_no_param_is_refused(app: Celery) -> None:
    """A misspelt one would never be seen, where the model does not take others."""
    with pytest.raises(BadParams, match="there is no param 'tiems'; there are doc_id, times"):
        Template.register("note", noting, input=Order, defaults={"tiems": 5})

    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    Template.register("open", noting, input=Open, defaults={"tiems": 5})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "template: note\ndefaults:\n  times: 4\n"),
        ("a.toml", 'template = "note"\n[defaults]\ntimes = 4\n'),
        ("a.json", '{"template": "note", "defaults": {"times": 4}}'),
    ],
)
def test_defaults_from_a_file(app: Celery, tmp_path: Path, name: str, text: str) -> None:
    """YAML, TOML or JSON says which template and which defaults; it is read once."""
    Template.register("note", noting, input=Order, defaults={"doc_id": "d", "times": 2})
    (tmp_path / name).write_text(text)
    loaded = Template.load(tmp_path / name)
    (tmp_path / name).unlink()
    assert Template.load(tmp_path / name) is loaded
    assert loaded.defaults == {"doc_id": "d", "times": 4}
    assert len(loaded.using(tags=["night"]).start().pending_jobs) == 4
    assert [batch.tags for batch in Batch.list(tag="night")] == [["night"]]
    assert Template.get("note").defaults["times"] == 2


def test_a_file_may_name_what_it_makes(app: Celery, tmp_path: Path) -> None:
    """Then it is found by that name too."""
    Template.register("note", noting, input=Order)
    (tmp_path / "a.yaml").write_text("template: note\nname: twice\ndefaults: {doc_id: d, times: 2}\n")
    Template.load(tmp_path / "a.yaml")
    assert len(Template.run("twice").pending_jobs) == 2


@pytest.mark.parametrize(
    "text", ["- a", "template: 3", "template: note\nparams: {}", "a: [", "template: note\ndefaults: 3"]
)
def test_a_file_that_says_something_else(app: Celery, tmp_path: Path, text: str) -> None:
    """It is named, with what it must say."""
    Template.register("note", noting, input=Order)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"a\.yaml"):
        Template.load(tmp_path / "a.yaml")


def test_a_builder_must_give_what_can_be_started(app: Celery) -> None:
    """A flow that it started itself would run without the template's params, and is refused."""
    Template.register("started", lambda order: Noting.start(order.doc_id), input=Order)
    Template.register("nothing", lambda _: None, input=Order)
    with pytest.raises(PlanInvalid, match=r"gave <.*>: Noting\.s\(\.\.\.\) in place of \.start\(\.\.\.\)"):
        Template.run("started", doc_id="a")
    with pytest.raises(PlanInvalid, match=r"must give a flow class, SomeFlow\.s"):
        Template.run("nothing", doc_id="a")


def test_preview(app: Celery) -> None:
    """The plan can be looked at without running it."""
    Template.register("note", noting, input=Order)
    assert str(Template.get("note").preview(doc_id="a")).count("shop.note") == 1
    assert Batch.list() == []


def test_params_are_remembered_by_a_canvas_too(app: Celery) -> None:
    """Its tasks find them."""

    @app.task(name="shop.recall", shared=False)
    def recall() -> None:
        job = current_job()
        assert job is not None
        app.flows_test_notes.append(job.memory.read("doc_id"))

    Template.register("canvas", lambda _: recall.si(), input=Order)
    Template.run("canvas", doc_id="a")
    work(app)
    assert app.flows_test_notes == [{"doc_id": "a"}]


def test_several_inside_one_batch(app: Celery) -> None:
    """Each remembers its own params, and not those of the other."""

    @app.task(name="shop.recall", shared=False)
    def recall() -> None:
        job = current_job()
        assert job is not None
        app.flows_test_notes.append(job.memory.read())

    Template.register("canvas", lambda _: recall.si(), input=Order)
    with (batch := Batch.create()).jobs():
        for doc_id in ("a", "b"):
            Template.run("canvas", doc_id=doc_id)
    work(app)
    assert app.flows_test_notes == [{"doc_id": "a", "times": 1}, {"doc_id": "b", "times": 1}]
    assert (batch.status, batch.memory.read()) == ("complete", {})


def test_what_a_builder_says_of_a_canvas_stays(app: Celery) -> None:
    """Its tags and callbacks are not lost by what the template says of it."""

    def build(order: Order) -> Any:
        note = app.tasks["shop.note"]
        return Workflow.from_canvas(note.si(1)).using(tags=["mine"]).on("complete", note.si("over"))

    Template.register("canvas", build, input=Order)
    run = Template.run("canvas", doc_id="a")
    work(app)
    assert (run.tags, run.description, app.flows_test_notes) == (["mine"], "canvas", [(1,), ("over",)])


class Login(BaseModel):
    user: str = "me"
    password: SecretStr
    since: dict[str, int] = Field(default_factory=dict)


@typed_task(name="template.login")
def login(params: Login) -> None:
    """See that it is the one."""
    assert params.password.get_secret_value() == "hunter2"


class Codec:
    def encode(self, text: str) -> str:
        return text[::-1]

    def decode(self, text: str) -> str:
        return text[::-1]


def test_secret_params(file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typed task finds them in the memory, with a codec too; and no list of templates says one."""
    monkeypatch.setattr(Template, "_known", {})
    with flows_app(file_url, codec=Codec()) as app:
        app.set_current()
        Template.register("login", lambda _: login.si(), input=Login, defaults={"password": "hunter2"})
        assert describe(Template.get("login")) == "login(user='me', password=..., since=...)"
        runs = [Template.run("login"), Template.run("login", Login(password=SecretStr("hunter2")))]
        work(app)
        assert [run.status for run in runs] == ["complete", "complete"]


def test_params_by_an_alias(app: Celery) -> None:
    """What is said goes before a default, whichever of its names either has."""

    class Aliased(BaseModel):
        doc_id: str = Field(alias="doc")

    Template.register("note", lambda params: Noting.s(params.doc_id), input=Aliased, defaults={"doc": "default"})
    assert Template.run("note", {"doc_id": "said"}).memory.read() == {"doc_id": "said"}


def test_what_is_no_model_is_refused(app: Celery) -> None:
    """Where it is registered."""
    with pytest.raises(ConfigurationError, match="pydantic model that has fields, not <class 'dict'>"):
        Template.register("note", noting, input=dict)


def test_params_written_by_hand(app: Celery) -> None:
    """JSON where the param takes it, text where it does not, or where it is none."""

    class Mixed(BaseModel):
        doc_id: str
        times: int = 1
        parts: list[int] = []
        either: str | int = ""

    Template.register("note", noting, input=Mixed)
    written = {"doc_id": "123", "times": "3", "parts": "[1, 2]", "either": "4", "more": "a b"}
    assert read_texts(Template.get("note"), written) == {
        "doc_id": "123",
        "times": 3,
        "parts": [1, 2],
        "either": 4,
        "more": "a b",
    }
