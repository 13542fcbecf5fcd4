"""A plan as people see it: each job once, where one would write it down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from apps import called, flows_app, rows
from celery import Celery
from plans import different
from printing import pretty

from celery_flows import Batch, BatchingTask, Orchestration, Sequence, Workflow, step
from celery_flows.preview import Preview
from celery_flows.states import JobState


@pytest.fixture(autouse=True)
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app


def lines(preview: Preview) -> list[str]:
    """Its tree, without the title and what every line begins with."""
    title, *found = str(preview).splitlines()
    assert title == preview.title
    assert all(line.startswith("  ") for line in found)
    return [line[2:] for line in found]


class Form(Sequence):
    """Two steps."""

    create = step("shop.note")

    @step
    def notify(self) -> None:
        """Do nothing."""


class Slices(BatchingTask):
    """As many slices as it is told."""

    def split(self, number: int) -> Iterator[int]:
        yield from range(number)

    def process(self, part: int) -> None:
        """Do nothing."""


class Gallery(Workflow):
    """Many before one, and two ends of it."""

    def plan(self, number: int) -> None:
        resized = [self.run("shop.add", one) for one in range(number)]
        manifest = self.run("shop.note", after=resized, name="manifest")
        self.run("shop.note", after=manifest, name="tell owner")
        self.run("shop.fail", after=manifest, when="failure", name="alert")


class Import(Orchestration):
    """Series and blocks, in one another, and flows among them."""

    def plan(self) -> None:
        self.run("shop.add", 1)
        with self.in_parallel():
            self.run("shop.note", 1)
            self.run("shop.note", 2)
            with self.in_series():
                self.run("shop.add", 1)
                self.run("shop.fail")
        self.run(Form)
        with self.in_parallel():
            self.run(Slices.s(3))
            self.run("shop.note")
        with self.in_parallel():
            for _ in range(4):
                with self.in_series():
                    self.run("shop.add", 1)
                    self.run("shop.note")
        self.run("shop.note")


class Diamond(Workflow):
    """Two before two, and one after all ends."""

    def plan(self) -> None:
        top = self.run("shop.add", 1, name="top")
        sides = [self.run("shop.add", 1, after=top, name=name) for name in ("left", "right")]
        below = [self.run("shop.add", 1, after=sides, name=name) for name in ("low", "lower")]
        self.run("shop.note", after=[sides, below], when="settled", name="last")


class Tangle(Workflow):
    """Jobs that wait for some of those beside one another."""

    def plan(self) -> None:
        a, b, c = (self.run("shop.add", 1, name=name) for name in "abc")
        self.run("shop.add", 1, after=[a, b], name="ab")
        self.run("shop.add", 1, after=[b, c], name="bc")
        self.run("shop.add", 1)


def test_a_gallery() -> None:
    """What is alike is counted, and what comes after all of it stands below, with its condition."""
    assert lines(Gallery.preview(250)) == [
        "- shop.add, 250 times",
        "manifest: shop.note",
        "- tell owner: shop.note",
        "- alert: shop.fail (when failure)",
    ]


def test_an_orchestration() -> None:
    """It reads as it was written: series below one another, blocks with dashes, flows as one line each."""
    module = Form.__module__
    assert lines(Import.preview()) == [
        "shop.add",
        "- shop.note, 2 times",
        "- shop.add",
        "  shop.fail",
        f"{module}.Form (sequence)",
        f"- {module}.Slices (batching)",
        "- shop.note",
        "then",
        "- shop.add, 4 times",
        "  shop.note",
        "shop.note",
    ]


def test_a_diamond() -> None:
    """Where several wait for several, "then" stands between; what can't be seen is said."""
    assert lines(Diamond.preview()) == [
        "top: shop.add",
        "- left: shop.add",
        "- right: shop.add",
        "then",
        "- low: shop.add",
        "- lower: shop.add",
        "last: shop.note (when settled, after left and right and low and lower)",
    ]


def test_what_waits_for_some_only_says_so() -> None:
    """A job that does not wait for all above it names those that it waits for."""
    assert lines(Tangle.preview()) == [
        "- a: shop.add",
        "- b: shop.add",
        "- c: shop.add",
        "- shop.add",
        "ab: shop.add (after a and b)",
        "bc: shop.add (after b and c)",
    ]


def test_a_sequence_and_a_batching_task() -> None:
    """A sequence's steps by their names, a batching task's slices counted."""
    assert lines(Form.preview(name="Joel")) == ["create: shop.note", f"notify: {Form.__module__}.Form.notify"]
    assert lines(Slices.preview(3)) == [f"- {Slices.__module__}.Slices.process, 3 times"]
    assert str(Slices.preview(0)) == "Slices"


def test_a_long_series_prints(app: Celery) -> None:
    """However deep it is, neither planning nor printing recurses."""
    add = app.tasks["shop.add"]

    class Long(Orchestration):
        def plan(self) -> None:
            for number in range(3000):
                self.run(add, number)

    assert lines(Long.preview()) == ["shop.add"] * 3000


def test_mermaid() -> None:
    """Nodes with what they are called, conditions on the arrows, quotes escaped, joins as small circles."""

    class Quoted(Workflow):
        def plan(self) -> None:
            one = self.run("shop.add", 1, name='a "name"')
            self.run("shop.note", after=one, when="failure")

    assert Quoted.preview().to_mermaid().splitlines() == [
        "flowchart TD",
        '    n1["a #quot;name#quot;: shop.add"]',
        '    n2["shop.note"]',
        "    n1 -->|failure| n2",
    ]
    assert '(("&nbsp;"))' in Diamond.preview().to_mermaid()


def states(preview: Preview, *some: JobState) -> Preview:
    """Let the jobs of a plan stand somewhere, in their order; the last of these also the rest."""
    given = [*some, *([some[-1]] * len(preview.plan.nodes))]
    return Preview(preview.title, preview.plan, dict(zip(preview.plan.nodes, given, strict=False)))


def test_states_in_a_tree() -> None:
    """Where a job stands is told behind it; of several that are alike, how many stand where, at each depth."""
    live = states(Gallery.preview(4), JobState.COMPLETE, JobState.FAILED, JobState.WAITING)
    assert lines(live)[:2] == [
        "- shop.add, 4 times [1 failed, 2 waiting, 1 complete]",
        "manifest: shop.note [waiting]",
    ]
    parts = states(Import.preview(), JobState.COMPLETE)
    ends = [one for one in parts.plan.nodes if parts.plan.nodes[one].task == "shop.note"][-5:-1]
    parts.states = {**parts.states, ends[2]: JobState.RUNNING}
    assert lines(parts)[-3:-1] == ["- shop.add, 4 times [4 complete]", "  shop.note [1 running, 3 complete]"]


def test_a_name_does_nothing_to_a_terminal() -> None:
    """Nor does it break its line."""

    class Steering(Workflow):
        def plan(self) -> None:
            self.run("shop.add", 1, name="red \x1b[31m\nand more")

    assert lines(Steering.preview()) == ["red \ufffd[31m and more: shop.add"]


def test_states_are_written_as_one_likes() -> None:
    """Such as in colours: only the words."""
    live = states(Gallery.preview(2), JobState.COMPLETE)
    assert [*live.lines(str.upper)][1:3] == [
        "  - shop.add, 2 times [2 COMPLETE]",
        "  manifest: shop.note [COMPLETE]",
    ]


def test_states_in_a_chart_and_in_data() -> None:
    """In words and colours; in data each node has its own."""
    live = states(Gallery.preview(2), JobState.COMPLETE, JobState.FAILED)
    chart = live.to_mermaid().splitlines()
    assert chart[1:3] == ['    n1["shop.add<br/>complete"]', '    n2["shop.add<br/>failed"]']
    assert "    class n2,n3,n4,n5 failed" in chart
    assert [one["state"] for one in live.to_dict()["nodes"]] == ["complete", *["failed"] * 4]
    assert "state" not in Gallery.preview(2).to_dict()["nodes"][0]


def test_at_a_prompt() -> None:
    """The tree, also inside of other things; of a long one the beginning."""
    assert pretty([Diamond.preview()], breaks=True).splitlines()[:2] == ["[Diamond", "   top: shop.add"]
    long = [f"job {number}" for number in range(60)]

    class Long(Workflow):
        def plan(self) -> None:
            for name in long:
                self.run("shop.add", 1, name=name)

    said = pretty(Long.preview()).splitlines()
    assert (len(said), said[-1]) == (51, "… and more: print it")


def test_in_a_notebook() -> None:
    """A drawing; and the tree of what is too large for one."""
    drawn = Gallery.preview(20)
    assert "and 18 more like it" in str(drawn._repr_svg_())
    assert "and 18 more like it" in drawn._repr_html_()
    assert drawn.to_svg() == drawn._repr_svg_()
    large = Preview("Large", different(700))
    assert large._repr_svg_() is None
    assert "<pre>Large\n  - shop.task_0\n" in large._repr_html_()


def test_as_data() -> None:
    """The dictionary is the form in which a plan is frozen."""
    data = Gallery.preview(2).to_dict()
    assert (data["version"], len(data["nodes"]), len(data["edges"])) == (1, 5, 4)
    assert data["nodes"][2]["name"] == "manifest"
    assert repr(Gallery.preview(2)) == "<Preview of Gallery: 5 jobs, 4 edges>"
    assert repr(Form.preview()) == "<Preview of Form: 2 jobs, 1 edge>"


def test_nothing_is_written_or_published(app: Celery) -> None:
    """A preview leaves nothing behind, of whatever kind."""
    for preview in (Gallery.preview(2), Import.preview(), Form.preview(), Slices.preview(2)):
        assert str(preview)
    assert (rows(app), Batch.list(), called(app)) == ([], [], [])
