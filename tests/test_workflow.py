"""Workflows: any graph of jobs, with conditions, names and results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from apps import called, flows_app, messages, notes_of, rows, work
from celery import Celery

from celery_flows import PlanInvalid, Workflow, current_job
from celery_flows.errors import NoResult


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find, with tasks that read results and add jobs."""
    with flows_app(file_url, result_max_bytes=100) as app:
        app.set_current()

        @app.task(name="shop.read", shared=False)
        def read(*names: str) -> Any:
            results = current_job().results  # type: ignore[union-attr] # it is a job
            notes_of(app).append(tuple(results[name] for name in names))

        @app.task(name="shop.give", shared=False)
        def give(value: Any = None, times: int = 1) -> Any:
            return value * times if times > 1 else value

        yield app


class Gallery(Workflow):
    """The workflow of the documentation."""

    def plan(self, *image_ids: int, fails: bool = False) -> None:
        resized = [self.run("shop.note", one) for one in image_ids]
        task = "shop.fail" if fails else "shop.give"
        manifest = self.run(task, "the manifest", after=resized, name="manifest")
        self.run("shop.read", "manifest", after=manifest)
        self.run("shop.note", "alert", after=manifest, when="failure")
        self.run("shop.note", "tidy", after=manifest, when="settled")


def words(app: Celery) -> list[Any]:
    """The first word of each note."""
    return [note[0] for note in notes_of(app)]


def test_after_and_results(app: Celery) -> None:
    """A job runs after all that it names, and reads the result of a named one; branches not needed are no harm."""
    run = Gallery.start(1, 2, 3)
    work(app)
    assert words(app)[:3] == [1, 2, 3]
    assert sorted(words(app)[3:]) == ["the manifest", "tidy"]
    assert (run.status, run.kind) == ("complete", "workflow")
    assert dict(run.progress) == {"total": 7, "complete": 6, "failed": 0, "cancelled": 1, "pending": 0}


def test_conditions_on_failure(app: Celery) -> None:
    """What waited for a failure runs, what waited for any end too, and what waited for success is skipped."""
    run = Gallery.start(1, fails=True)
    work(app)
    assert sorted(words(app)[1:]) == ["alert", "tidy"]
    assert (run.status, run.failed_jobs[0].name) == ("failed", "manifest")
    assert dict(run.progress) == {"total": 5, "complete": 3, "failed": 1, "cancelled": 1, "pending": 0}


def test_a_condition_that_cannot_be_met_skips_down_the_line(app: Celery) -> None:
    """What waited for a skipped job is skipped too, unless it waits for any end."""

    class Line(Workflow):
        def plan(self) -> None:
            failed = self.run("shop.fail")
            second = self.run("shop.note", "second", after=failed)
            third = self.run("shop.note", "third", after=second)
            self.run("shop.note", "at the end", after=[failed, second, third], when="settled")

    run = Line.start()
    work(app)
    assert words(app) == ["at the end"]
    assert dict(run.progress) == {"total": 4, "complete": 1, "failed": 1, "cancelled": 2, "pending": 0}


def test_a_branch_that_was_not_needed_counts_as_nothing_wrong(app: Celery) -> None:
    """Skipped for want of a failure is no failure; skipped for want of a completion counts against tolerance."""

    class Tolerant(Workflow):
        tolerate = 2

        def plan(self) -> None:
            fine = self.run("shop.note", "fine")
            for _ in range(5):
                self.run("shop.note", "not needed", after=fine, when="failure")
            failed = self.run("shop.fail")
            self.run("shop.note", "in vain", after=failed)

    run = Tolerant.start()
    work(app)
    assert (run.status, run.progress.cancelled) == ("complete", 6)
    strict = Tolerant.using(tolerate=1).start()
    work(app)
    assert strict.status == "failed"


def test_queue_countdown_and_name(app: Celery) -> None:
    """They are those of the call; the name is shown in lists."""

    class Optioned(Workflow):
        def plan(self) -> None:
            self.run("shop.note", queue="slow", countdown=60, name="noted", key="value")

    run = Optioned.start()
    [message] = messages(app, "slow")
    assert message.headers["eta"] is not None
    assert message.payload[1] == {"key": "value"}
    assert [job.name for job in run.pending_jobs] == ["noted"]


def test_arguments_may_have_any_name(app: Celery) -> None:
    """Arguments named as those of run itself come with a signature; "target" and "self" need none."""

    class Named(Workflow):
        def plan(self) -> None:
            self.run("shop.note", target=1, self=2)
            self.run(app.signature("shop.note", kwargs={"name": 1, "after": 2}))

    Named.start()
    work(app)
    assert notes_of(app) == [({"target": 1, "self": 2},), ({"name": 1, "after": 2},)]


class TestResults:
    """What named jobs return."""

    def test_only_what_somebody_may_read_is_stored(self, app: Celery) -> None:
        """A result is kept where its job has a name and something waits for it; else it costs nothing."""

        class Kept(Workflow):
            def plan(self) -> None:
                read = self.run("shop.give", "read", name="read")
                nameless = self.run("shop.give", "nameless")
                self.run("shop.give", "last", name="last", after=[read, nameless])

        run = Kept.start()
        work(app)
        assert [row.result for row in rows(app, batch_id=run.id)] == ['"read"', None, None]

    def test_as_a_mapping(self, app: Celery) -> None:
        """Names of complete jobs are its keys; one that is not there says why."""
        seen = []

        @app.task(name="shop.look", shared=False)
        def look() -> None:
            results = current_job().results  # type: ignore[union-attr] # it is a job
            seen.append((sorted(results), dict(results), len(results), "nobody" in results))
            for name in ("nobody", "failed", "unread"):
                with pytest.raises(NoResult) as missing:
                    results[name]
                seen.append(str(missing.value))

        class Looked(Workflow):
            def plan(self) -> None:
                first = self.run("shop.give", {"a": [1]}, name="first")
                failed = self.run("shop.fail", name="failed")
                look = self.run("shop.look", after=[first, failed], when="settled")
                self.run("shop.give", 1, after=look, name="unread")

        Looked.start()
        work(app)
        assert seen[0] == (["first"], {"first": {"a": [1]}}, 1, False)
        assert ["no such job" in seen[1], "failed" in seen[2], "waiting" in seen[3]] == [True] * 3

    def test_one_that_is_too_large_fails_its_job(self, app: Celery) -> None:
        """The error names the size, the limit and the setting; what waits for the job is skipped."""

        class Large(Workflow):
            def plan(self, times: int) -> None:
                large = self.run("shop.give", "x", times, name="large")
                self.run("shop.read", "large", after=large)

        run = Large.start(99)
        work(app)
        [failed] = run.failed_jobs
        assert (run.status, failed.name, failed.error_class) == ("failed", "large", "ResultTooLarge")
        assert "101 bytes" in str(failed.error_message)
        assert "result_max_bytes" in str(failed.error_message)
        run = Large.start(98)
        work(app)
        assert run.status == "complete"

    def test_one_that_is_not_json_fails_its_job(self, app: Celery) -> None:
        """Where somebody waits to read it."""

        @app.task(name="shop.object", shared=False)
        def give_object() -> Any:
            return object()

        class Objects(Workflow):
            def plan(self, is_read: bool) -> None:
                one = self.run("shop.object", name="object")
                if is_read:
                    self.run("shop.note", after=one)

        for is_read, status in ((True, "failed"), (False, "complete")):
            run = Objects.start(is_read)
            work(app)
            assert run.status == status
            assert [job.error_class for job in run.failed_jobs] == ["NotStorable"] * is_read


class TestAdding:
    """job.add, from inside."""

    @pytest.fixture
    def add(self, app: Celery) -> list[Any]:
        """What the task shop.grow is to do with its job."""
        todo: list[Any] = []

        @app.task(name="shop.grow", shared=False)
        def grow() -> None:
            todo.pop(0)(current_job())

        class Grown(Workflow):
            def plan(self) -> None:
                self.run("shop.give", "the first", name="first", after=self.run("shop.note", "start"))
                grow = self.run("shop.grow")
                self.run("shop.note", "after", after=grow)

        todo.append(Grown)
        return todo

    def run(self, app: Celery, add: list[Any], *acts: Any) -> Any:
        """Start the flow, let its job do this, and work all off."""
        grown = add.pop(0)
        add += acts
        run = grown.start()
        work(app)
        return run

    def test_behind_named_jobs(self, app: Celery, add: list[Any]) -> None:
        """An added job waits for jobs of the flow by name, or for what add gave, and is waited for itself."""

        def act(job: Any) -> None:
            second = job.add("shop.note", "second", after="first", name="second")
            job.add("shop.note", "third", after=[second, "first"])
            job.add("shop.note", "alert", after=second, when="failure")

        run = self.run(app, add, act)
        assert words(app)[-3:] == ["second", "third", "after"]
        assert (run.status, run.progress.total, run.progress.cancelled) == ("complete", 7, 1)

    def test_an_added_job_reads_what_the_one_before_returned(self, app: Celery, add: list[Any]) -> None:
        """The result of an added job is kept where it has a name, as others may be added behind it."""

        def act(job: Any) -> None:
            job.add("shop.give", "found", name="search")
            job.add("shop.read", "search", after=["search", "first"])

        run = self.run(app, add, act)
        assert words(app) == ["start", "found", "after"]
        assert run.status == "complete"

    def test_behind_a_job_that_has_ended(self, app: Celery, add: list[Any]) -> None:
        """Then it is due at once, or skipped at once, as that has ended."""

        def act(job: Any) -> None:
            job.add("shop.note", "skipped", after="start", when="failure")
            job.add("shop.note", "due", after="start")

        grown = add.pop(0)
        add += [act]

        class Started(grown):  # type: ignore[misc] # a class made in a fixture
            def plan(self) -> None:
                start = self.run("shop.note", "start", name="start")
                self.run("shop.note", "after", after=self.run("shop.grow", after=start))

        run = Started.start()
        work(app)
        assert words(app) == ["start", "due", "after"]
        assert run.status == "complete"

    def test_what_is_refused(self, app: Celery, add: list[Any]) -> None:
        """A name that is taken, a job that is not there, a condition that is none: before anything is written."""
        problems = []

        def act(job: Any) -> None:
            for options in (
                {"name": "first"},
                {"after": "nobody"},
                {"when": "done"},
                {"when": "settled"},
                {"name": "x" * 300},
            ):
                with pytest.raises(PlanInvalid) as refused:
                    job.add("shop.note", **options)
                problems.append(str(refused.value))

        run = self.run(app, add, act)
        assert [any(word in said for said in problems) for word in ("'first' already", "'nobody'", "'done'")] == [
            True
        ] * 3
        assert (run.status, run.progress.total) == ("complete", 4)

    def test_a_flow(self, app: Celery, add: list[Any]) -> None:
        """A whole flow may be added, here or behind a job; what waits for the adding one waits for all of it."""

        def act(job: Any) -> None:
            job.add(Gallery, 7, after="first", name="gallery")
            job.add(Gallery.s(8))

        run = self.run(app, add, act)
        assert words(app)[-1] == "after"
        assert words(app).count("tidy") == 2
        assert (run.status, run.total_progress.total) == ("complete", 14)


def test_a_wide_join_costs_the_sum(app: Celery) -> None:
    """N jobs before M jobs are N + M edges and one join, which is in no list and no count."""

    class Wide(Workflow):
        def plan(self) -> None:
            first = [self.run("shop.note", one) for one in range(20)]
            for one in range(30):
                self.run("shop.note", one, after=first)

    plan = Wide.preview().plan
    assert (len(plan.nodes), len(plan.edges)) == (51, 50)
    run = Wide.start()
    assert (len(run.pending_jobs), run.progress.total) == (50, 50)
    work(app)
    assert (run.status, len(run.completed_jobs)) == ("complete", 50)
    assert words(app)[:20] == list(range(20))


def test_results_of_a_nested_flow_stay_in_it(app: Celery) -> None:
    """Names are those of one flow: the same name may stand in another, inside or around it."""

    class Outer(Workflow):
        def plan(self) -> None:
            manifest = self.run("shop.give", "outer", name="manifest")
            inner = self.run(Gallery, 1, after=manifest, name="gallery")
            self.run("shop.read", "manifest", after=inner)

    run = Outer.start()
    work(app)
    assert run.status == "complete"
    assert [word for word in words(app) if isinstance(word, str)] == ["the manifest", "tidy", "outer"]


def test_the_rows_say_who_waits_for_whom(app: Celery) -> None:
    """A waiting job has no message; its row tells the call that is published when its turn comes."""
    run = Gallery.start(1)
    assert called(app) == [("shop.note", 1)]
    waiting = rows(app, batch_id=run.id, state="waiting")
    assert [(row.task, json.loads(row.args)) for row in waiting] == [
        ("shop.give", ["the manifest"]),
        ("shop.read", ["manifest"]),
        ("shop.note", ["alert"]),
        ("shop.note", ["tidy"]),
    ]
