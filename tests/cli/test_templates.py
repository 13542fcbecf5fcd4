"""Commands for templates, run as processes: what they print, write, and exit with."""

from __future__ import annotations

from pathlib import Path

import pytest
from apps import flows_app
from commands import Done, run

from celery_flows import Batch

PROJECT = """
from celery import Celery
from celery_flows import Flows
app = Celery("shop", broker="memory://", include=["orders"])
Flows(app, database_url="sqlite:///shop.sqlite3")
"""

ORDERS = """
from pydantic import BaseModel, SecretStr
from celery_flows import Orchestration, Template, Workflow
from shop import app

class Order(BaseModel):
    doc_id: str
    times: int = 1
    token: SecretStr = SecretStr("hunter2")

@app.task(name="shop.note")
def note(doc_id): pass

class Noting(Orchestration):
    def plan(self, doc_id, times):
        for _ in range(times):
            self.run(note, doc_id)

@Template.register("note_order", input=Order, defaults={"times": 2})
def note_order(order):
    return Noting.s(order.doc_id, order.times)

class Nothing(BaseModel): pass

@Template.register("tagged", input=Nothing)
def tagged(params):
    return Workflow.from_canvas(note.si("a")).using(tags=["builder's"])
"""

IMPORT = "Import the module that registers it."

BAD = (
    "doc_id: Field required (missing); "
    "times: Input should be a valid integer, unable to parse string as an integer (int_parsing, got str). "
    "Nothing was written."
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a user's app, whose templates stand in another module, and its tables."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(PROJECT)
    (folder / "orders.py").write_text(ORDERS)
    (folder / "params.yaml").write_text("doc_id: '7'\ntimes: 3\n")
    (folder / "list.yaml").write_text("- doc_id\n")
    assert run("celery", "-A", "shop", "flows", "upgrade", cwd=folder).code == 0
    return folder


def flows(project: Path, *words: str) -> Done:
    """Run `celery -A shop flows ...`."""
    return run("celery", "-A", "shop", "flows", *words, cwd=project)


def batches(project: Path) -> list[Batch]:
    """The batches that there are."""
    with flows_app(f"sqlite:///{project / 'shop.sqlite3'}") as app:
        return Batch.list(app=app)


def test_listed(project: Path) -> None:
    """Each with its params and what they are by default; a secret is not said."""
    assert flows(project, "templates") == (0, "note_order(doc_id, times=2, token=...)\ntagged()\n", "")


def test_without_any(tmp_path: Path) -> None:
    """An app that registers none says so."""
    (tmp_path / "shop.py").write_text(PROJECT.replace(', include=["orders"]', ""))
    done = flows(tmp_path, "templates")
    assert done == (0, "", "No templates are registered by what the app imports.\n")


def test_run(project: Path) -> None:
    """Params come from a file and, before it, from the command line, where a number may be meant as text."""
    words = ("--params-file", "params.yaml", "--param", "doc_id=123", "--tag", "night", "--tag", "csv")
    done = flows(project, "run", "note_order", *words)
    assert (done.code, done.err) == (0, "")
    with flows_app(f"sqlite:///{project / 'shop.sqlite3'}") as app:
        batch = Batch.get(done.out.strip(), app=app)
        assert (batch.tags, batch.progress.total) == (["night", "csv"], 3)
        assert batch.memory.read("doc_id", "times") == {"doc_id": "123", "times": 3}


def test_without_tags_those_of_the_builder_stay(project: Path) -> None:
    """What is not said on the command line takes nothing away."""
    done = flows(project, "run", "tagged")
    with flows_app(f"sqlite:///{project / 'shop.sqlite3'}") as app:
        assert Batch.get(done.out.strip(), app=app).tags == ["builder's"]


def test_previewed(project: Path) -> None:
    """The plan is shown, and nothing is written."""
    before = len(batches(project))
    done = flows(project, "run", "note_order", "--param", "doc_id=123", "--preview")
    assert done == (0, "Noting\n  shop.note\n  shop.note\n", "")
    assert len(batches(project)) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("note_ordre",), 1, f"There is no template named 'note_ordre' (did you mean 'note_order'?). {IMPORT}"),
        (("note_order", "--param", "times=many"), 1, f"Template 'note_order' can't be run with that: {BAD}"),
        (("note_order", "--params-file", "list.yaml"), 1, "list.yaml must hold names and values, not a list"),
        (("note_order", "--param", "doc_id"), 2, "'doc_id' is no param: write name=value, such as doc_id=123."),
        (("note_order", "--params-file", "none.yaml"), 2, "File 'none.yaml' does not exist."),
        ((), 2, "Missing argument 'NAME'."),
    ],
    ids=["unknown", "bad params", "bad file", "bad param", "no file", "no name"],
)
def test_what_is_wrong_is_one_line(project: Path, words: tuple[str, ...], code: int, said: str) -> None:
    """It is said, with an exit code of its kind, and nothing is written."""
    before = len(batches(project))
    done = flows(project, "run", *words)
    *usage, last = done.err.splitlines()
    assert (done.code, done.out, last.startswith("Error: "), last.endswith(said)) == (code, "", True, True)
    assert code == 2 or usage == []
    assert len(batches(project)) == before
