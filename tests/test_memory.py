"""The memory of a run: one suite for whatever keeps it, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
from apps import flows_app, messages, run_message, work
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from remembering import MERGES, DictMemory, job

from celery_flows import Batch, Orchestration, Sequence, Workflow, current_job, step
from celery_flows.codec import decode, encode
from celery_flows.errors import (
    InvalidSetting,
    KeyIsMerged,
    MergeFailed,
    NotStorable,
    PlanInvalid,
)
from celery_flows.merging import MARK, NAMED, Merges


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "redis", "custom"])
def place(request: pytest.FixtureRequest) -> str:
    """Where memories are: in one of the databases, in Redis, or in an object."""
    return str(request.param)


@pytest.fixture
def database_kind(place: str) -> str:
    """What is kept elsewhere is the same whatever the database."""
    return "sqlite" if place in ("redis", "custom") else place


@pytest.fixture
def memory(request: pytest.FixtureRequest, place: str) -> Any:
    """What the setting says."""
    return {"redis": lambda: request.getfixturevalue("redis_memory"), "custom": DictMemory}.get(
        place, lambda: None
    )()


@pytest.fixture
def app(database_url: str, memory: Any) -> Iterator[Celery]:
    """An app that flows find, with a task that does what its call says."""
    with flows_app(database_url, memory=memory, merges=MERGES) as app:
        app.set_current()

        @app.task(name="shop.keep", shared=False)
        def keep(*acts: list[Any]) -> None:
            job = current_job()
            assert job is not None
            for name, *args in acts:
                app.flows_test_notes.append(getattr(job.memory, name)(*args))

        @app.task(name="shop.answer", shared=False, remember=True)
        def answer(given: Any) -> Any:
            return given

        yield app


def test_written_and_read(app: Celery) -> None:
    """A job sees what it wrote at once, others once it is complete; keys that are not there are left out."""
    batch = job(app, ("write", {"a": 1, "b": [None]}), ("read", "a", "c"), ("read",))
    assert batch.memory.read() == {}
    work(app)
    assert app.flows_test_notes == [None, {"a": 1}, {"a": 1, "b": [None]}]
    assert (batch.status, batch.memory.read()) == ("complete", {"a": 1, "b": [None]})
    assert batch.memory.read("b", "c") == {"b": [None]}


def test_the_later_value_stays(app: Celery) -> None:
    """Jobs that write other keys leave each other's alone."""
    with (batch := Batch.create()).jobs():
        app.tasks["shop.keep"].delay(("write", {"a": 1, "b": 1}))
        app.tasks["shop.keep"].delay(("write", {"a": 2}))
    work(app)
    assert batch.memory.read() == {"a": 2, "b": 1}


def test_cleared(app: Celery) -> None:
    """One key, or all of them; what is written afterwards is there."""
    batch = Batch.create()
    batch.memory.write(a=1, b=2, c=3)
    with batch.jobs():
        app.tasks["shop.keep"].delay(("clear", "a"), ("read",))
    work(app)
    assert (app.flows_test_notes[-1], batch.memory.read()) == ({"b": 2, "c": 3}, {"b": 2, "c": 3})


def test_cleared_from_outside(app: Celery) -> None:
    """With what jobs gave to keys that are merged."""
    batch = Batch.create()
    batch.memory.write(a=1)
    job(app, ("write", {"total": 3}), batch=batch)
    work(app)
    assert batch.memory.read() == {"a": 1, "total": 3}
    batch.memory.clear("total")
    assert batch.memory.read() == {"a": 1}
    batch.memory.clear()
    assert batch.memory.read() == {}


def test_cleared_and_given_again(app: Celery) -> None:
    """A job that clears a merged key and gives to it begins it anew."""
    batch = Batch.create()
    job(app, ("write", {"total": 3}), batch=batch)
    messages_of_both = [*messages(app)]
    with batch.jobs():
        app.tasks["shop.keep"].delay(("clear", "total"), ("write", {"total": 4}), ("read", "total"))
    messages_of_both += messages(app)
    for message in messages_of_both:
        run_message(app, message)
    assert (app.flows_test_notes[-1], batch.memory.read()) == ({"total": 4}, {"total": 4})


def test_a_merged_key_that_was_cleared_is_not_there(file_url: str) -> None:
    """Neither by its name nor among all."""
    with flows_app(file_url, merges=MERGES) as app:
        app.set_current()

        @app.task(name="shop.clear", shared=False)
        def clear() -> None:
            job = current_job()
            assert job is not None
            job.memory.clear("total")
            app.flows_test_notes += [job.memory.read("total"), job.memory.read(), "total" in job.data]

        @app.task(name="shop.give", shared=False, remember=True)
        def give() -> dict[str, int]:
            return {"total": 3}

        batch = Batch.create()
        with batch.jobs():
            give.delay()
            clear.delay()
        work(app)
        assert (batch.status, app.flows_test_notes) == ("complete", [{}, {}, False])


def test_an_error_forgets_what_was_written(app: Celery) -> None:
    """What a job wrote comes with its success."""
    batch = job(app, ("write", {"a": 1}), ("nothing",))
    work(app)
    assert (batch.status, batch.memory.read()) == ("failed", {})


def test_merges(app: Celery) -> None:
    """What several jobs give to one key is merged: by name, by pattern, by a function of the user's."""
    batch = Batch.create()
    with batch.jobs():
        for number in (1, 2, 3):
            given = {"total": number, "lines": number, "words": [number, 1], "a.best": number}
            app.tasks["shop.keep"].delay(("write", given), ("write", {"total": 10}))
    work(app)
    assert batch.status == "complete"
    assert batch.memory.read() == {"total": 36, "lines": [1, 2, 3], "words": [1, 2, 3], "a.best": 3}
    assert batch.memory.read("total", "none") == {"total": 36}


def test_a_job_that_runs_again_gives_its_share_once(app: Celery) -> None:
    """Its new share takes the place of the old one."""
    batch = job(app, ("write", {"total": 5}), ("read", "total"))
    work(app)
    batch.retry("all")
    work(app)
    assert (batch.status, batch.memory.read()) == ("complete", {"total": 5})


def test_a_merged_key_is_not_set(app: Celery) -> None:
    """Who sets it would lose what others gave: the error says how to give."""
    batch = Batch.create()
    with pytest.raises(KeyIsMerged, match="Give what this job adds to it"):
        batch.memory.write(total=1)

    @app.task(name="shop.set", shared=False)
    def set_it(how: str) -> None:
        job = current_job()
        assert job is not None
        if how == "set":
            job.data["total"] = 1
        else:
            job.data["lines"].append(1)

    job(app, ("write", {"lines": 1}), batch=batch)
    with batch.jobs():
        set_it.delay("set")
        set_it.delay("in place")
    work(app)
    assert {one.error_class for one in batch.failed_jobs} == {"KeyIsMerged"}
    assert len(batch.failed_jobs) == 2


def test_shares_that_do_not_fit(app: Celery) -> None:
    """A merge that can't take what it is given says so where the key is read."""
    batch = Batch.create()
    with batch.jobs():
        app.tasks["shop.keep"].delay(("write", {"total": 1}))
        app.tasks["shop.keep"].delay(("write", {"total": "two"}))
    work(app)
    with pytest.raises(MergeFailed, match="under 'total' can't be merged: TypeError"):
        batch.memory.read()


def test_what_a_task_returns(app: Celery) -> None:
    """A task with remember=True leaves its mapping; returning anything else fails it, None leaves nothing."""
    with (batch := Batch.create()).jobs():
        for given in ({"a": 1}, None):
            app.tasks["shop.answer"].delay(given)
    work(app)
    assert (batch.status, batch.memory.read()) == ("complete", {"a": 1})
    with (batch := Batch.create()).jobs():
        app.tasks["shop.answer"].delay([1])
    work(app)
    assert batch.failed_jobs[0].error_class == "NotRemembered"
    assert "must return a mapping" in batch.failed_jobs[0].error_message


def test_under_the_jobs_name(app: Celery) -> None:
    """With remember="job" two jobs of one task keep apart, by their names in the flow."""

    @app.task(name="shop.part", shared=False, remember="job")
    def part(number: int) -> dict[str, int]:
        return {"n": number}

    class Apart(Workflow):
        def plan(self) -> None:
            self.run(part, 1, name="one")
            self.run(part, 2, name="two")
            self.run(part, 3)

    run = Apart.start()
    work(app)
    assert run.memory.read() == {"one.n": 1, "two.n": 2, "shop.part.n": 3}
    assert run.memory.of("two").read() == {"n": 2}


class Inner(Orchestration):
    def plan(self) -> None:
        self.run("shop.keep", ["write", {"inner": 1}], ["read"])


class Own(Inner):
    owns_memory = True


class Outer(Orchestration):
    def plan(self, given: int) -> None:
        self.run(Inner)
        self.run(Own)
        self.run("shop.keep", ["read"])


def test_children_share_it(app: Celery) -> None:
    """All of a run have one memory, but for what says that it has its own."""
    run = Outer.start(7)
    work(app)
    assert run.status == "complete", run.explain()
    assert app.flows_test_notes[1::2] == [{"given": 7, "inner": 1}, {"inner": 1}]
    assert app.flows_test_notes[-1] == {"given": 7, "inner": 1}


def test_batches_inside_share_it(app: Celery) -> None:
    """A child of a batch too, with memory="own" not."""
    batch = Batch.create()
    with batch.jobs():
        shared, own = Batch.create(), Batch.create(memory="own")
        for one in (shared, own):
            job(app, ("write", {one.id: 1}), batch=one)
    work(app)
    assert (batch.status, batch.memory.read(), own.memory.read()) == ("complete", {shared.id: 1}, {own.id: 1})
    with pytest.raises(InvalidSetting, match="'memory' is 'mine'"):
        Batch.create(memory="mine")


class Kept(Sequence):
    one = step("shop.keep")


def test_a_sequences_is_in_the_database(app: Celery, memory: Any) -> None:
    """Whatever keeps the others': a step's data and its outcome are one."""
    run = Kept.start(a=1)
    assert (run.data["a"], run.memory.read()) == (1, {"a": 1})
    if isinstance(memory, DictMemory):
        assert memory.runs == {}


@pytest.mark.parametrize("key", ["x" * 256, "a\x1fb", "a\0b", 3])
def test_keys_that_are_none(app: Celery, key: Any) -> None:
    """Refused where they are written, whatever keeps them."""
    with pytest.raises(NotStorable, match="keys are texts of at most 255 characters"):
        Batch.create().memory.write({key: 1})


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=5), st.randoms())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_merging_equals_some_order_of_jobs(shares: list[list[int]], random: Any) -> None:
    """In whatever order jobs end, the result is as if they had run one after another."""
    ids = [f"job-{number}" for number in range(len(shares))]
    stored = [(f"key{MARK}{job_id}", encode(given)) for job_id, given in zip(ids, shares, strict=True)]
    random.shuffle(stored)
    for name in ("sum", "append"):
        found = Merges({"key": NAMED[name]}).fold(dict(stored))
        serial = [one for given in shares for one in given]
        assert decode(found.get("key")) == (reduce(NAMED[name], serial, None) if serial else None)


def test_jobs_side_by_side(app: Celery) -> None:
    """Each began before any other ended: all shares are there, and no other key is lost."""
    batch = Batch.create()
    with batch.jobs():
        for number in range(5):
            app.tasks["shop.keep"].delay(
                ("read",), ("write", {"total": 1, f"key{number}": number}), ("read", "total")
            )
    for message in messages(app):
        run_message(app, message)
    work(app)
    assert batch.memory.read() == {"total": 5, **{f"key{number}": number for number in range(5)}}


class Starting(Orchestration):
    owns_memory = True

    def plan(self, word: str, *, times: int = 1) -> None:
        self.run("shop.keep", ["read"])


class Around(Orchestration):
    def plan(self, word: str) -> None:
        self.run(Starting, "inner", times=2)
        self.run("shop.keep", ["read"])


def test_a_flow_inside_with_a_memory_of_its_own_begins_with_its_arguments(app: Celery) -> None:
    """As one does that is started."""
    run = Around.start("outer")
    work(app)
    assert run.status == "complete", run.explain()
    assert app.flows_test_notes == [{"word": "inner", "times": 2}, {"word": "outer"}]


class Methods(Sequence):
    @step
    def one(self) -> None:
        self.memory.write(total=3, a=1)
        raise ValueError("no")


def test_in_a_method_of_a_flow(file_url: str) -> None:
    """What it writes comes with the step's success, as by `self.data`, and it gives a share of what is merged."""
    with flows_app(file_url, merges=MERGES) as app:
        app.set_current()
        run = Methods.start()
        work(app)
        assert (run.failed_jobs[0].error_class, run.memory.read()) == ("ValueError", {})


def test_a_sequence_shares_with_nobody(file_url: str) -> None:
    """Its data is in the database, where the memory around it need not be."""

    class Sharing(Sequence):
        owns_memory = False
        one = step("shop.keep")

    with flows_app(file_url) as app:
        app.set_current()
        for start in (Sharing.start, Sharing.s, Kept.using(memory="shared").start):
            with pytest.raises(PlanInvalid, match="the data of a sequence is its own"):
                start()


def test_what_was_written_meanwhile_stays(app: Celery) -> None:
    """Planning in a worker does not begin a memory anew that was begun where the flow was started."""
    run = Starting.delay("given")
    run.memory.write(word="written")
    work(app)
    assert app.flows_test_notes == [{"word": "written"}]
