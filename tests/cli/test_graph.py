"""The command graph: a batch with its states, or what a class would run, as a tree, a chart or a drawing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from apps import flows_app, work
from celery import Celery
from commands import here, records, run

from celery_flows import Batch, Orchestration, Sequence, Workflow, step
from celery_flows.queries import graph as graph_queries


class Form(Sequence):
    """Two steps."""

    create = step("shop.note")
    assign = step("shop.note")


class Gallery(Workflow):
    """Some before one, and an end for when it fails."""

    def plan(self, number: int, *, task: str = "shop.add") -> None:
        resized = [self.run(task, one) for one in range(number)]
        manifest = self.run("shop.fail", after=resized, name="manifest")
        self.run("shop.note", after=manifest, name="tell owner")
        self.run("shop.note", after=manifest, when="failure", name="alert")


class Outer(Orchestration):
    """A flow inside, and a batch that a job adds."""

    def plan(self) -> None:
        self.run(Form)
        self.run("shop.note")


GALLERY = f"{__name__}:Gallery"


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


def test_a_flow_that_has_run(app: Celery, file_url: str) -> None:
    """The tree tells where each job stands; an id may be shortened."""
    flow = Gallery.using(description="Night <7>").start(7)
    work(app)
    done = here("graph", flow.id[:23], url=file_url)
    assert done.out.splitlines() == [
        f"Gallery {flow.id[:18]} Night <7>: failed",
        "  - shop.add, 7 times [7 complete]",
        "  manifest: shop.fail [failed]",
        "  - tell owner: shop.note [skipped]",
        "  - alert: shop.note (when failure) [complete]",
    ]
    assert (done.code, done.err) == (0, "")


def test_a_flow_inside_and_a_child(app: Celery, file_url: str) -> None:
    """Each is one job of the flow that it is in, with its class and kind, or what it was described as."""
    flow = Outer.start()
    Batch.create(description="Invoices", parent=flow)
    lines = here("graph", flow.id, url=file_url).out.splitlines()
    assert f"  - {__name__}.Form (sequence) [running]" in lines
    assert [line for line in lines if "Invoices: batch" in line]


def test_a_batch_without_edges(app: Celery, file_url: str) -> None:
    """Its jobs stand side by side."""
    batch = Batch.create(app=app)
    with batch.jobs():
        for number in range(3):
            app.tasks["shop.add"].delay(number)
    assert here("graph", batch.id, app=app).out.splitlines()[1:] == ["  - shop.add, 3 times [3 queued]"]


def test_what_a_job_adds_is_in_it(app: Celery, file_url: str) -> None:
    """The graph is read from the rows, not from what was planned; a job that is done planning is none."""
    flow = Form.delay()
    assert [one["kind"] for one in records(here("graph", flow.id, "--json", url=file_url))[0]["nodes"]] == ["plan"]
    work(app)
    [record] = records(here("graph", flow.id, "--json", url=file_url))
    assert (record["id"], record["title"]) == (flow.id, f"Form {flow.id[:18]}: complete")
    assert [(one["name"], one["state"]) for one in record["nodes"]] == [
        ("create", "complete"),
        ("assign", "complete"),
    ]
    assert [edge[2] for edge in record["edges"]] == ["complete"]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.svg", "<svg"),
        ("a.mmd", "flowchart TD"),
        ("a.mermaid", "flowchart TD"),
        ("A.SVG", "<svg"),
        ("a.txt", "Gallery"),
        ("a", "Gallery"),
    ],
)
def test_to_a_file(app: Celery, tmp_path: Path, name: str, begins: str) -> None:
    """How the file ends says how it is written; a tree where that says nothing."""
    done = here("graph", GALLERY, "--args", "[3]", "-o", str(tmp_path / name), app=app)
    assert done == (0, "", f"Written: {tmp_path / name}, 6 jobs\n")
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


def test_a_drawing_shows_states(app: Celery, file_url: str) -> None:
    """As an SVG on stdout."""
    flow = Gallery.start(20)
    work(app)
    drawn = ElementTree.fromstring(here("graph", flow.id, "--format", "svg", url=file_url).out)
    words = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"and 18 more like it", "18 complete", "when failure", "skipped"} <= {*words}


def test_a_class(app: Celery) -> None:
    """Planned with what is given as JSON, in lists and by name; nothing is written."""
    done = here("graph", GALLERY, "--args", "[2]", "--kwargs", '{"task": "shop.note"}', app=app)
    assert done.out.splitlines()[:2] == ["Gallery", "  - shop.note, 2 times"]
    [record] = records(here("graph", GALLERY, "--args", "[2]", "--json", app=app))
    assert (record["class"], len(record["nodes"]), len(record["edges"])) == (GALLERY, 5, 4)
    assert Batch.list(app=app) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("0199",), 3, "There is no batch '0199'"),
        ((GALLERY,), 1, "Give what its plan takes with --args and --kwargs."),
        ((GALLERY, "--args", "[1, 2, 3]"), 1, "can't be planned so: "),
        ((GALLERY, "--args", "{}"), 2, "'{}' is not what is needed here: write it like '[42, \"a\"]'."),
        ((GALLERY, "--kwargs", "x"), 2, "is no JSON"),
        ((f"{__name__}:Celery",), 2, "is no flow: name a Sequence, an Orchestration or the like."),
        ((f"{__name__}:Nothing.at.all",), 2, "is no flow"),
        (("no_module:Gallery",), 2, "There is no module 'no_module' to import here"),
        ((GALLERY, "--args", '[1, {"task": 1}]'), 1, "can't be planned so"),
        ((GALLERY, "--args", "[1]", "--kwargs", '{"task": "shop.none"}'), 1, "shop.none"),
        ((GALLERY, "--args", "[1]", "-o", "no/such/folder.png"), 2, "No .png is drawn here: name the file .svg"),
        (("0199", "--args", "[1]"), 2, "--args and --kwargs are for a CLASS"),
        ((GALLERY, "--args", "[1]", "--json", "--format", "svg"), 2, "--json is a format of its own"),
        (
            (GALLERY, "--args", "[1]", "-o", "no/such/folder.svg"),
            1,
            "can't be written: No such file or directory.",
        ),
    ],
)
def test_what_is_wrong(app: Celery, words: tuple[str, ...], code: int, said: str) -> None:
    """It is said in one line, with an exit code of its kind."""
    done = here("graph", *words, app=app)
    last = done.err.splitlines()[-1]
    assert (done.code, done.out, last.startswith("Error: "), said in last) == (code, "", True, True), done


def test_too_many_jobs(app: Celery, file_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that nobody would look at job by job is not read."""
    monkeypatch.setattr(graph_queries, "_MOST", 3)
    flow = Gallery.start(1)
    done = here("graph", flow.id, url=file_url)
    assert (done.code, done.out) == (1, "")
    assert f"Batch {flow.id} has more than 3 jobs" in done.err


def test_as_a_process(tmp_path: Path) -> None:
    """Without an app, a class is found in the folder, which may make the app itself."""
    (tmp_path / "shop.py").write_text(PROJECT)
    done = run("celery-flows", "graph", "shop:Notes", "--args", "[3]", cwd=tmp_path)
    assert done == (0, "Notes\n  shop.note\n  shop.note\n  shop.note\n", "")
    words = ("graph", "shop:Notes", "--args", "[3]", "--format", "mermaid")
    done = run("celery", "-A", "shop", "flows", *words, cwd=tmp_path)
    assert (done.code, done.out.splitlines()[0], done.err) == (0, "flowchart TD", "")


PROJECT = """
from celery import Celery
from celery_flows import Flows, Orchestration
app = Celery("shop", broker="memory://")
Flows(app, database_url="sqlite:///shop.sqlite3")

@app.task(name="shop.note")
def note(): pass

class Notes(Orchestration):
    def plan(self, times):
        for _ in range(times):
            self.run(note)
"""
