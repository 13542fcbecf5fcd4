"""Flows in flows: planned in their turn, failing, cancelled and retried through the levels, and counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from apps import flows_app, messages, notes_of, run_message, work
from celery import Celery

from celery_flows import Batch, Orchestration, Sequence, current_job, step
from celery_flows.errors import BlockMisuse


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find, with a task that fails until the app is well."""
    with flows_app(file_url) as app:
        app.set_current()
        app.is_well = False

        @app.task(name="shop.perhaps", shared=False)
        def perhaps(word: str) -> None:
            if not app.is_well:
                raise ValueError("not well")
            notes_of(app).append((word,))

        yield app


class Note(Orchestration):
    """A flow of one job."""

    def plan(self, word: str = "noted") -> None:
        self.run("shop.note", word)


class Deep(Orchestration):
    """A flow in a flow, and so on, ending in a job that notes or fails."""

    def plan(self, depth: int, task: str = "shop.note") -> None:
        if depth:
            self.run(Deep.s(depth - 1, task))
            self.run("shop.note", f"after {depth - 1}")
        else:
            self.run(task, "the deepest")


def levels(flow: Batch) -> list[Batch]:
    """A flow and those inside it, from the top down."""
    found = [flow]
    while inside := [one for one in Batch.list() if one.parent == found[-1]]:
        found += inside
    return found


class TestNesting:
    """Flows in flows in flows."""

    def test_nobody_begins_one_before_its_turn(self, app: Celery) -> None:
        """A block of it is refused until then, and it runs once its turn has come."""

        class Later(Sequence):
            first = step(app.tasks["shop.note"].si("first"))
            second = step(Note)

        flow = Later.start()
        [inside] = [one for one in Batch.list() if one.parent == flow]
        with pytest.raises(BlockMisuse, match="its turn has not come"), inside.jobs():
            app.tasks["shop.note"].delay("too early")
        work(app)
        assert (notes_of(app), flow.status) == ([("first",), ("noted",)], "complete")

    def test_ten_levels(self, app: Celery) -> None:
        """Each is planned when its turn comes, progress is per level, and the total counts the jobs of all."""
        run = Deep.start(10)
        work(app)
        every = levels(run)
        assert [one.status for one in every] == ["complete"] * 11
        assert [one.progress.total for one in every] == [2] * 10 + [1]
        assert run.total_progress.total == run.total_progress.complete == 11
        assert [note[0] for note in notes_of(app)] == ["the deepest", *(f"after {number}" for number in range(10))]

    def test_a_failure_goes_up_and_a_retry_comes_back(self, app: Celery) -> None:
        """It fails each level and skips what waited; a retry at the top runs what failed and what was skipped."""
        run = Deep.start(10, "shop.perhaps")
        work(app)
        every = levels(run)
        assert [one.status for one in every] == ["failed"] * 11
        assert dict(every[0].progress) == {"total": 2, "complete": 0, "failed": 1, "cancelled": 1, "pending": 0}
        assert dict(run.total_progress) == {"total": 11, "complete": 0, "failed": 1, "cancelled": 10, "pending": 0}
        assert [job.task for job in every[-1].failed_jobs] == ["shop.perhaps"]
        app.is_well = True
        run.retry()
        work(app)
        assert [one.status for one in every] == ["complete"] * 11
        assert [note[0] for note in notes_of(app)] == ["the deepest", *(f"after {number}" for number in range(10))]

    def test_a_retry_below_opens_all_above(self, app: Celery) -> None:
        """The levels that failed by it wait for it again, and go on from there."""
        run = Deep.start(3, "shop.perhaps")
        work(app)
        every = levels(run)
        app.is_well = True
        every[-1].retry()
        assert [one.status for one in every] == ["running"] * 4
        work(app)
        assert [one.status for one in every] == ["complete"] * 4
        assert len(notes_of(app)) == 4

    def test_a_cancel_goes_down(self, app: Celery) -> None:
        """A cancel at the top ends what is under way below, and what was not begun."""
        run = Deep.start(3)
        while len(levels(run)) < 4:
            run_message(app, messages(app)[0])
        run.cancel()
        work(app)
        assert [one.status for one in levels(run)] == ["cancelled"] * 4
        assert (notes_of(app), run.total_progress.pending) == ([], 0)

    @pytest.mark.parametrize(
        ("mode", "runs"),
        [("failed", ["again"]), ("failed+downstream", ["again", "after"]), ("all", ["first", "again", "after"])],
    )
    def test_retry_modes(self, app: Celery, mode: str, runs: list[str]) -> None:
        """One runs what failed, the next what was skipped by it too, the last everything."""

        class Steps(Orchestration):
            def plan(self) -> None:
                self.run(Note, "first")
                self.run("shop.perhaps", "again")
                self.run("shop.note", "after")

        run = Steps.start()
        work(app)
        assert (run.status, notes_of(app)) == ("failed", [("first",)])
        app.is_well = True
        notes_of(app).clear()
        run.retry(mode)
        work(app)
        assert [note[0] for note in notes_of(app)] == runs
        assert run.progress.pending == 0

    def test_data_of_flows_inside(self, app: Celery) -> None:
        """Flows inside a sequence share its data; a sequence inside has its own."""

        @app.task(name="shop.keep", shared=False)
        def keep(key: str) -> None:
            job = current_job()
            assert job is not None
            job.data[key] = job.batch.kind

        class Inner(Orchestration):
            def plan(self, key: str) -> None:
                self.run("shop.keep", key)

        class Own(Sequence):
            write = step(app.signature("shop.keep", ("own",)))

        class Outer(Sequence):
            inner = step(Inner.s("inner"))
            own = step(Own)

        run = Outer.start(given=1)
        work(app)
        assert dict(run.data) == {"given": 1, "inner": "orchestration"}
        [own] = Batch.list(kind="sequence")[:1]
        assert isinstance(own, Own)
        assert dict(own.data) == {"own": "sequence"}


class TestTotals:
    """batch.total_progress."""

    def test_on_every_database(self, database_url: str) -> None:
        """One query counts the jobs of all levels, in place of the rows that stand for children."""
        with flows_app(database_url) as app:
            app.set_current()
            batch = Batch.create(app=app)
            assert dict(batch.total_progress) == dict(batch.progress)
            with batch.jobs():
                app.tasks["shop.note"].delay("own")
                Deep.start(2)
                child = Batch.create(app=app)
                with child.jobs():
                    app.tasks["shop.fail"].delay()
                    app.tasks["shop.note"].delay("child")
            assert batch.progress.total == 3
            # The deep flow has a job, and a flow inside that is not planned yet.
            assert dict(batch.total_progress) == {
                "total": 5,
                "complete": 0,
                "failed": 0,
                "cancelled": 0,
                "pending": 5,
            }
            work(app)
            total = batch.total_progress
            assert dict(total) == {"total": 6, "complete": 5, "failed": 1, "cancelled": 0, "pending": 0}
            assert (total.percent, total.eta, total.elapsed > 0) == (100.0, 0.0, True)
            assert dict(batch.progress) == {"total": 3, "complete": 2, "failed": 1, "cancelled": 0, "pending": 0}
