"""What a person sees of batches, jobs and progress at a prompt: what was read, its age, and never a query."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from apps import counting, flows_app, runtime_of, work
from celery import Celery
from printing import pretty

from celery_flows import Batch, Orchestration, Sequence, current_job, step
from celery_flows.progress import Progress
from celery_flows.shown.snapshot import Snapshot
from celery_flows.shown.words import short


@pytest.fixture(autouse=True)
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """Time stands still where things are shown, so that what a test reads was read just now."""
    now = time.monotonic()
    monkeypatch.setattr("celery_flows.shown.snapshot.monotonic", lambda: now)
    return now


def age(snapshot: Snapshot | None, now: float, seconds: float) -> None:
    """Let something have been read so long ago."""
    object.__setattr__(snapshot, "_read_at", now - seconds)


class Form(Sequence):
    """One step."""

    create = step("shop.note")


class Import(Orchestration):
    """One job."""

    def plan(self) -> None:
        self.run("shop.note")


def mixed(app: Celery) -> Batch:
    """A batch in which one job of three has failed, another waits."""
    batch = Batch.create(description="Rescore <42>", tags=["night"])
    with batch.jobs():
        app.tasks["shop.add"].delay(1)
        app.tasks["shop.fail"].delay("no <way>")
        app.tasks["shop.add"].apply_async((2,), queue="elsewhere")
    work(app)
    return batch


def shown(one: Any) -> str:
    """Everything that shows a thing, checked to be of one mind about what it is."""
    html = ElementTree.fromstring(one._repr_html_())
    assert pretty(one, breaks=True).replace("\n  ", " ") == pretty(one)
    return " ".join("".join(html.itertext()).split())


def test_a_batch_that_was_made_here() -> None:
    """It says what it was made with, and that nothing has been read."""
    batch = Batch.create(description="Rescore <42>")
    name = f"Batch {short(batch.id)}"
    assert repr(batch) == f"<{name} 'Rescore <42>': not read yet>" == pretty(batch)
    assert shown(batch) == f"Batch {batch.id} Rescore <42>not read yet: .status and .progress do"
    assert repr(Batch.create()) != repr(Batch.create())


def test_a_batch_that_was_read(app: Celery, now: float) -> None:
    """State and counts come with their age; where both are as old, it is said once."""
    batch = mixed(app)
    head = f"<Batch {short(batch.id)} 'Rescore <42>':"
    assert (batch.status, batch.progress.failed) == ("failed", 1)
    assert repr(batch) == f"{head} failed, 1 of 3 jobs complete, 1 failed, as of just now>" == pretty(batch)
    age(batch._record, now, 12.2)
    age(batch._progress, now, 12.4)
    assert repr(batch) == f"{head} failed, 1 of 3 jobs complete, 1 failed, as of 12 s ago>"
    age(batch._record, now, 200)
    assert repr(batch) == f"{head} failed as of 3 min ago, 1 of 3 jobs complete, 1 failed as of 12 s ago>"
    found = Batch.get(batch.id)
    assert repr(found).startswith(f"{head} failed, as of ")


def test_a_batch_in_a_notebook(app: Celery) -> None:
    """What never changes stands there too, and the moment, as a page keeps what it says."""
    batch = mixed(app)
    assert (batch.status, batch.progress.failed) == ("failed", 1)
    said = shown(batch)
    assert f"Batch {batch.id} Rescore <42>failed · made {batch.created_at:%Y-%m-%d %H:%M:%S} UTC · " in said
    assert "tags: night" in said
    assert "1 of 3 jobs complete, 1 failed" in said
    assert said.count("as of 20") == 2
    assert said.count("UTC (just now)") == 2


@pytest.mark.parametrize("kind", [Form, Import])
def test_a_flow_shows_its_class(kind: Any) -> None:
    """Of whatever kind it is."""
    flow = kind.using(description="Joel").start()
    assert repr(flow) == f"<{kind.__name__} {short(flow.id)} 'Joel': not read yet>" == pretty(flow)
    assert flow.status == "running"
    assert repr([flow]) == f"[<{kind.__name__} {short(flow.id)} 'Joel': running, as of just now>]"


def test_showing_never_queries(app: Celery) -> None:
    """At no prompt, in no notebook, for no list: also where the database is away."""
    batch = mixed(app)
    known, flow = Batch.get(batch.id), Form.start()
    jobs = batch.failed_jobs[:]
    every = (batch, known, flow, batch.progress, batch.pending_jobs, batch.failed_jobs, jobs[0])
    statements = counting(runtime_of(app).database)
    for one in every:
        assert repr(one)
        assert pretty(one)
        assert shown(one)
    assert jobs._repr_html_()
    assert statements() == 0


def test_progress_at_a_prompt(now: float) -> None:
    """A bar, what is left, how fast it goes, how long it takes, and how old all that is."""
    half = Progress(1_247, 601, 3, 20, 623, running=8, elapsed=30.0)
    age(half, now, 65)
    assert pretty(half) == (
        "<Progress ██████████░░░░░░░░░░ 50 %: 601 of 1,247 jobs complete, 3 failed, 20 cancelled, "
        "623 pending (8 running), 20.8 jobs/s, 30 s to go, as of 65 s ago>"
    )
    assert shown(half).startswith("50 % · 601 of 1,247 jobs complete, 3 failed, 20 cancelled · 623 pending")
    assert half.age == 65


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(0, 0, 0, 0, 0), "████ 100 %: no jobs, as of just now>"),
        (Progress(4, 0, 0, 0, 4, elapsed=9.0), "░░░░ 0 %: 0 of 4 jobs complete, 4 pending, as of just now>"),
        (Progress(4, 4, 0, 0, 0, elapsed=2.0), "████ 100 %: 4 of 4 jobs complete, took 2 s, as of just now>"),
        (Progress(999, 998, 0, 0, 1), "█░ 99 %: 998 of 999 jobs complete, 1 pending, as of just now>"),
    ],
    ids=["nothing", "nothing yet", "everything", "almost"],
)
def test_progress_at_the_ends(progress: Progress, said: str) -> None:
    """No rate without time, no guess before the first end; 100 % only when nothing is left."""
    assert pretty(replace(progress)).endswith(said)


def test_a_job_that_failed(app: Celery) -> None:
    """Its call, its error, and how long it took: no age, as nothing will come of it by itself."""
    [job] = mixed(app).failed_jobs
    assert repr(job).startswith(
        f"<Job {short(job.id)} shop.fail('no <way>'): failed, ValueError: no <way>, took 0"
    )
    assert pretty(job) == repr(job)
    assert "no <way>" in shown(job)


def test_a_job_that_waits(app: Celery) -> None:
    """With the age of what is said."""
    [job] = mixed(app).pending_jobs
    assert repr(job) == f"<Job {short(job.id)} shop.add(2): queued, as of just now>"


def test_a_job_of_a_flow_shows_its_name(app: Celery) -> None:
    """And a flow inside is no call."""

    class Outer(Orchestration):
        def plan(self) -> None:
            self.run(Form)

    assert " 'create' shop.note(): queued" in repr(Form.start().pending_jobs[0])
    assert f" batch {Form.__module__}.Form: " in repr(Outer.start().pending_jobs[0])


def test_lists_say_what_they_would_show(app: Celery) -> None:
    """A list that was read is a list of jobs, and a table in a notebook."""
    batch = mixed(app)
    assert shown(batch.failed_jobs).startswith(f"failed jobs of batch {short(batch.id)} · not read")
    jobs = batch.failed_jobs[:5]
    assert repr(jobs) == f"[{jobs[0]!r}]"
    table = ElementTree.fromstring(jobs._repr_html_())
    assert [one.text for one in table.iter("th")] == ["job", "call", "state", "attempts", "error"]
    assert len(list(table.iter("td"))) == 5
    assert "no jobs" in batch.failed_jobs[7:]._repr_html_()


def hide(task: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Hide all arguments."""
    return ["***"], {}


def test_arguments_that_are_hidden_are_not_shown(file_url: str) -> None:
    """What a redaction hook hides stays hidden at the prompt."""
    with flows_app(file_url, redact=hide) as app:
        batch = Batch.create(app=app)
        with batch.jobs():
            app.tasks["shop.add"].delay(12345)
        [job] = batch.pending_jobs[:]
        assert "shop.add('***')" in repr(job)
        assert "12345" not in repr(job) + pretty(job) + job._repr_html_()


def test_the_running_job(app: Celery) -> None:
    """It says which attempt it is, and of what."""
    said: list[str] = []

    @app.task(name="shop.show", shared=False)
    def show() -> None:
        said.append(repr(current_job()))

    batch = Batch.create()
    with batch.jobs():
        show.delay()
    work(app)
    [job] = batch.completed_jobs
    assert said == [f"<Job {short(job.id)}: attempt 1, of <Batch {short(batch.id)}: not read yet>>"]
