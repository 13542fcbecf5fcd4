"""Plans: what can't be run is refused at start, by name, and what is started is frozen."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from apps import called, flows_app, notes_of, rows, runtime_of, work
from celery import Celery, chain, chord, group, signature

from celery_flows import Batch, NotJson, Orchestration, PlanInvalid, UnknownTask, Workflow
from celery_flows.ids import new_id
from celery_flows.plan import Edge, Node, Plan
from celery_flows.states import Condition, Kind, Takes


class Planned(Workflow):
    """A workflow whose plan each test writes."""

    how: ClassVar[list[Callable[[Any], object]]] = []

    def plan(self) -> None:
        self.how[-1](self)


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find."""
    with flows_app(file_url) as app:
        app.set_current()
        yield app
    Planned.how.clear()


def plan_of(*names: str) -> tuple[Plan, dict[str, str]]:
    """A plan of jobs with these names, and their ids."""
    plan = Plan()
    ids = {name: plan.add(Node(new_id(), Kind.TASK, "shop.add", name=name)).id for name in names}
    return plan, ids


def test_a_circle_is_refused_and_named() -> None:
    """Jobs that wait for one another in a circle are named in their order; those beside it are not."""
    plan, ids = plan_of("before", "a", "b", "c", "after")
    for pair in ("before a", "a b", "b c", "c a", "c after"):
        one, other = pair.split()
        plan.connect([ids[one]], [ids[other]])
    with pytest.raises(PlanInvalid) as refused:
        plan.check()
    said = str(refused.value)
    assert any(f"in a circle: {circle}." in said for circle in ("a → b → c → a", "b → c → a → b", "c → a → b → c"))


def test_a_job_that_waits_for_itself_is_a_circle() -> None:
    """The smallest circle has one job."""
    plan, ids = plan_of("a")
    plan.connect([ids["a"]], [ids["a"]])
    with pytest.raises(PlanInvalid, match="in a circle: a → a"):
        plan.check()


def test_a_job_of_another_plan_is_refused() -> None:
    """An edge from a job that is not of this plan can never be met."""
    plan, ids = plan_of("a")
    _, others = plan_of("b")
    plan.connect([others["b"]], [ids["a"]])
    with pytest.raises(PlanInvalid, match=f"not of this plan .{others['b']}"):
        plan.check()


def test_n_before_m_are_n_plus_m_edges() -> None:
    """Where several jobs wait for the same several ones they meet in a join; one on either side needs none."""
    plan, ids = plan_of(*"abcdefg")
    every = [ids[name] for name in "abcdefg"]
    plan.connect(every[:4], every[4:], Condition.SETTLED)
    [join] = [node for node in plan.nodes.values() if node.kind is Kind.JOIN]
    assert {(edge.dependent_id, edge.condition) for edge in plan.edges[:4]} == {(join.id, "settled")}
    assert [(edge.job_id, edge.condition) for edge in plan.edges[4:]] == [(join.id, "complete")] * 3
    single, ids = plan_of(*"abcd")
    single.connect([ids["a"]], [ids["b"], ids["c"]])
    single.connect([ids["b"], ids["c"]], [ids["d"]])
    assert len(single.nodes) == len(single.edges) == 4


def test_results_keep_their_places_through_a_join() -> None:
    """What takes the results of several gets them in the order in which these were given."""
    plan, ids = plan_of(*"abcd")
    plan.connect([ids["b"], ids["a"]], [ids["c"], ids["d"]], takes=Takes.LIST)
    [join] = [node for node in plan.nodes.values() if node.kind is Kind.JOIN]
    assert plan.edges[:2] == [Edge(ids["b"], join.id, position=0), Edge(ids["a"], join.id, position=1)]
    assert (plan.nodes[join.id].takes, plan.nodes[ids["c"]].takes) == (Takes.LIST, Takes.ONE)


def test_order_puts_each_job_after_those_it_waits_for() -> None:
    """Also where it was planned before them; the ends are the jobs that nothing waits for."""
    plan, ids = plan_of(*"abc")
    plan.connect([ids["c"]], [ids["a"]])
    plan.connect([ids["a"]], [ids["b"]])
    assert plan.order() == [ids[name] for name in "cab"]
    assert plan.sinks() == [ids["b"]]
    assert plan.waiting() == {ids["a"], ids["b"]}


NO_TASK = "is no task, signature or flow"
THREE_NAMES = "is no name: a text of 1 to 255 characters"


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        (lambda flow: flow.run("shop.nowhere"), UnknownTask, "shop.nowhere"),
        (lambda flow: flow.run(signature("shop.nowhere")), UnknownTask, "shop.nowhere"),
        (lambda flow: flow.run(print), PlanInvalid, NO_TASK),
        (lambda flow: flow.run(None), PlanInvalid, NO_TASK),
        (lambda flow: flow.run("shop.add", 1, object()), NotJson, r"argument 2 .*shop\.add|shop\.add.*argument 2"),
        (lambda flow: flow.run("shop.add", 1, y={1, object()}), NotJson, "Argument 'y'"),
        (lambda flow: flow.run("shop.add", 1, when="done"), PlanInvalid, "when='done' is none of"),
        (lambda flow: flow.run("shop.add", 1, after="x"), PlanInvalid, r"after=.x. is not what run.* gave"),
        (lambda flow: flow.run("shop.add", 1, after=[[3]]), PlanInvalid, "after=3 is not what"),
        (lambda flow: [flow.run("shop.add", 1, name="a") for _ in "12"], PlanInvalid, "two jobs are named 'a'"),
        (lambda flow: flow.run("shop.add", 1, name="x" * 256), PlanInvalid, THREE_NAMES),
        (lambda flow: flow.run("shop.add", 1, name="a\0b"), PlanInvalid, THREE_NAMES),
        (lambda flow: flow.run("shop.add", 1, name=""), PlanInvalid, THREE_NAMES),
        (lambda flow: flow.run("shop.add", 1, name=7), PlanInvalid, THREE_NAMES),
        (lambda flow: flow.run("shop.add"), TypeError, r"add\(\) missing 1 required positional argument: 'x'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_at_start(
    app: Celery, how: Callable[[Any], object], error: type[Exception], says: str
) -> None:
    """The culprit is named, and nothing is written or published: neither the batch nor jobs planned before."""

    def plan(flow: Any) -> None:
        flow.run("shop.add", 1)
        how(flow)

    Planned.how.append(plan)
    with pytest.raises(error, match=says):
        Planned.start()
    assert (rows(app), Batch.list(), called(app)) == ([], [], [])


def test_a_job_of_another_flow_is_refused_at_start(app: Celery) -> None:
    """A node that another flow's run gave is named as what it is."""
    strangers = []
    Planned.how.append(lambda flow: strangers.append(flow.run("shop.add", 1, name="stranger")))
    Planned.start()
    Planned.how.append(lambda flow: flow.run("shop.add", 1, after=strangers))
    with pytest.raises(PlanInvalid, match="stranger is a job of another plan"):
        Planned.start()
    assert len(Batch.list()) == 1


def test_a_plan_that_fails_in_a_worker_fails_its_flow(app: Celery) -> None:
    """With delay() there is nobody to raise to: the planning is the job that failed, and says why."""
    Planned.how.append(lambda flow: [flow.run("shop.add", 1), flow.run("shop.nowhere")])
    flow = Planned.delay()
    work(app)
    [planning] = flow.failed_jobs
    assert (flow.status, planning.kind, planning.error_class) == ("failed", "plan", "UnknownTask")
    assert "shop.nowhere" in str(planning.error_message)
    assert flow.progress.total == 1


def test_a_plan_is_frozen_with_its_version(app: Celery) -> None:
    """The batch keeps nodes and edges as JSON, the same whether it was planned here or in a worker."""

    def plan(flow: Any) -> None:
        first = flow.run("shop.add", 1, name="first")
        flow.run("shop.fail", after=first, when="failure")

    Planned.how.append(plan)
    for start in (Planned.start, Planned.delay):
        flow = start()
        work(app)
        kept = stored_plan(app, flow)
        assert kept["version"] == 1
        assert [(node["kind"], node["task"], node["name"]) for node in kept["nodes"]] == [
            ("task", "shop.add", "first"),
            ("task", "shop.fail", None),
        ]
        first, second = (node["id"] for node in kept["nodes"])
        assert kept["edges"] == [[first, second, "failure"]]
        assert [row.id for row in rows(app, batch_id=flow.id, kind="task")] == [first, second]


def stored_plan(app: Celery, flow: Batch) -> Any:
    """What the batch's row keeps."""
    database = runtime_of(app).database
    batches = database.tables.batches
    with database.reading() as connection:
        return json.loads(
            str(connection.scalar(batches.select().with_only_columns(batches.c.plan).filter_by(id=flow.id)))
        )


def test_all_of_a_plan_is_one_transaction(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last write fails, neither batch, jobs, edges, nested flows, callbacks nor data are there."""

    class Whole(Orchestration):
        def plan(self) -> None:
            self.run("shop.add", 1)
            self.run(Planned)

        def on_settled(self, batch: Batch) -> None:
            """Have a callback."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("celery_flows.transitions.enroll.admit", refuse)
    with pytest.raises(OSError, match="the disk is full"):
        Whole.start()
    database = runtime_of(app).database
    with database.reading() as connection:
        for table in database.tables.metadata.sorted_tables:
            assert connection.execute(table.select()).all() == [], table.name
    assert called(app) == []


@pytest.mark.parametrize(("shape", "jobs"), [(group, 2), (chain, 2), (chord, 3)])
def test_a_canvas_is_as_many_jobs_as_it_has(app: Celery, shape: Any, jobs: int) -> None:
    """What comes after a group, chain or chord waits for the whole of it."""
    parts = [signature("shop.note", (number,), app=app, immutable=True) for number in (1, 2)]
    canvas = shape(parts, parts[0]) if shape is chord else shape(*parts)
    Planned.how.append(lambda flow: flow.run("shop.note", "last", after=flow.run(canvas)))
    flow = Planned.start()
    work(app)
    assert (flow.status, flow.progress.total) == ("complete", jobs + 1)
    assert notes_of(app)[-1] == ("last",)


def test_a_map_is_one_job(app: Celery) -> None:
    """Celery sends it as one message, so it is one job."""
    Planned.how.append(lambda flow: flow.run(app.tasks["shop.add"].map([1, 2, 3])))
    flow = Planned.start()
    work(app)
    assert (flow.status, flow.progress.total) == ("complete", 1)


def test_planning_takes_time_in_proportion_to_the_jobs(app: Celery, without_collection: None) -> None:
    """Eight times the jobs take about eight times as long, not sixty-four times."""
    add = app.tasks["shop.add"]

    def seconds(number: int) -> float:
        Planned.how.append(lambda flow: [flow.run(add, 1) for _ in range(number)])
        began = time.process_time()
        assert len(Planned.preview().plan.nodes) == number
        return time.process_time() - began

    seconds(10)
    few, many = (min(seconds(number) for _ in range(3)) for number in (250, 2000))
    assert many < 24 * few


@pytest.fixture
def without_collection() -> Iterator[None]:
    """A process that ran the whole suite has so many objects that one pass over them outweighs a plan."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_options_that_json_knows_are_kept(app: Celery) -> None:
    """A signature brings its own options and arguments: queue, expiry, priority and the like."""
    given = signature("shop.add", (1,), {"y": 2}, app=app).set(queue="slow", priority=3)
    Planned.how.append(lambda flow: flow.run(given, countdown=7))
    flow = Planned.start()
    [row] = rows(app, batch_id=flow.id)
    assert json.loads(row.options) | {"queue": "slow", "priority": 3, "countdown": 7} == json.loads(row.options)
    assert (json.loads(row.args), json.loads(row.kwargs)) == ([1], {"y": 2})
    assert timedelta(0) < row.queued_at - row.enrolled_at <= timedelta(seconds=8)
