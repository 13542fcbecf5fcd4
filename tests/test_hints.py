"""What a user is told who takes one thing for another: it says what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from apps import flows_app, notes_of, plain_app, rows, runtime_of, work
from celery import Celery

from celery_flows import Batch, BatchExists, Flows, NotJson, Orchestration, PlanInvalid, current_job
from celery_flows.errors import BlockMisuse, NoResult, SchemaMissing


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


class Pipe(Orchestration):
    """A flow of one job."""

    def plan(self, word: str = "noted") -> None:
        self.run("shop.note", word)


@pytest.mark.parametrize("callback", [Pipe, Pipe.s("x")], ids=["class", "s"])
def test_a_flow_as_a_callback(app: Celery, callback: Any) -> None:
    """A task is to start it; here and where a flow is about to start."""
    says = r"a flow can't be a callback: let a task be it, and call Pipe\.start\(\.\.\.\) in that"
    with pytest.raises(PlanInvalid, match=says):
        Batch.create().on("complete", callback)
    with pytest.raises(PlanInvalid, match=says):
        Pipe.using().on("complete", callback).start()
    assert rows(app) == []


@pytest.mark.parametrize("call", [Pipe, lambda: Pipe("x"), lambda: Pipe("x", 2), lambda: Pipe(word="x")])  # type: ignore[list-item]
def test_a_flow_class_that_is_called(app: Celery, call: Callable[[], Any]) -> None:
    """It names the ways to have one."""
    with pytest.raises(TypeError, match=r"Pipe is not called itself: Pipe\.start\(\.\.\.\) runs one, Pipe\.s"):
        call()


@pytest.mark.parametrize("give", [lambda: Pipe.using(tags=["night"]), lambda: Pipe.using(tags=["night"]).s("x")])
def test_using_is_for_what_is_started(app: Celery, give: Callable[[], Any]) -> None:
    """As a job of another a flow has what its class says."""

    class Outer(Orchestration):
        def plan(self) -> None:
            self.run(give())

    with pytest.raises(
        PlanInvalid, match=r"using\(\.\.\.\) is for a flow that is started: .* give Pipe or Pipe\.s"
    ):
        Outer.start()


@pytest.mark.parametrize(
    "use",
    [
        lambda run: run.status,
        lambda run: run.progress,
        lambda run: run.total_progress,
        lambda run: run.cancel(),
        lambda run: run.retry(),
        lambda run: run.explain(),
    ],
)
def test_a_flow_that_is_yet_to_be_written(app: Celery, use: Callable[[Any], Any]) -> None:
    """Started in a block, it is there when that ends, which is not called pruned."""
    with Batch.create().jobs():
        run = Pipe.start()
        with pytest.raises(BlockMisuse, match=r"is written when that ends: use it after the block"):
            use(run)
    assert run.status == "running"


def test_a_result_that_is_not_there(app: Celery) -> None:
    """It reads as a sentence, although it is a KeyError."""

    @app.task(name="shop.look", shared=False)
    def look() -> None:
        job = current_job()
        assert job is not None
        with pytest.raises(NoResult) as missing:
            job.results["zzz"]
        notes_of(app).append(str(missing.value))

    with Batch.create().jobs():
        app.tasks["shop.look"].delay()
    work(app)
    assert notes_of(app) == ["There is no result of a job named 'zzz': the flow has no such job."]


def test_a_parent_by_its_id(app: Celery) -> None:
    """An id is not a batch."""
    batch = Batch.create()
    parent: Any = batch.id
    for make in (lambda: Batch.create(parent=parent), lambda: Pipe.using(parent=parent).start()):
        with pytest.raises(TypeError, match=rf"parent= takes a Batch, not '{parent}': .* Batch\.get\(id\)"):
            make()
    assert Batch.list() == [batch]


def test_what_is_not_json_where_no_block_is(app: Celery) -> None:
    """Nothing is said of a block."""
    with pytest.raises(NotJson) as refused:
        Batch.create(context=object())
    assert str(refused.value).endswith("Pass an id or plain data instead.")


def test_a_key_of_a_batch_whose_block_raised(app: Celery) -> None:
    """Waiting for that one would not end: it says so, and what it says can be done."""
    batch = Batch.create(key="night")
    with pytest.raises(LookupError), batch.jobs():
        raise LookupError
    with pytest.raises(BatchExists, match=rf"Batch\.get\('{batch.id}'\)\.cancel\(\)\. If its first block raised"):
        Batch.create(key="night")
    Batch.get(batch.id).cancel()
    assert Batch.create(key="night").status == "pending"


def test_a_joined_transaction_without_our_tables(tmp_path: Path) -> None:
    """They are missed as without connection=: by name, and with the command that makes them."""
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    app, engine = plain_app(), sa.create_engine(url)
    Flows(app, database_url=url)
    uses: list[Callable[[Any], Any]] = [
        lambda connection: Batch.create(app=app, connection=connection),
        lambda connection: Batch.get("x", app=app, connection=connection),
        lambda connection: Batch("x", runtime_of(app)).jobs(connection=connection).__enter__(),
        lambda connection: Pipe.using(app=app, connection=connection).delay(),
    ]
    for use in uses:
        with engine.begin() as connection, pytest.raises(SchemaMissing, match="flows upgrade"):
            use(connection)
    engine.dispose()
    runtime_of(app).database.close()
    app.close()
