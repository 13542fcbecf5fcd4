"""What the doctor says of what it finds: a verdict, the fact, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_flows.cli.doctor import app, server, upkeep
from celery_flows.cli.doctor.finding import Finding, Verdict
from celery_flows.queries.health import Due, Server, Upkeep
from celery_flows.queries.workers import WorkerRecord
from celery_flows.settings import Settings

URL = "postgresql://shop:secret@db.example/shop"
NONE = Due(0, 0.0)
SETTINGS = Settings()


def a_server(**facts: Any) -> Server:
    """A server that is well, but for some facts."""
    well = {
        "version": "PostgreSQL 15.4 on x86_64",
        "answer": 0.001,
        "ahead": 0.01,
        "isolation": "READ COMMITTED",
        "default_isolation": "READ COMMITTED",
        "is_read_only": False,
        "logs_statements": False,
    }
    return Server(**{**well, **facts})


def an_upkeep(**facts: Any) -> Upkeep:
    """Upkeep that is well, but for some facts."""
    well = {"swept": 7.0, "unfinished": 0, "publishing": NONE, "releasing": NONE, "callbacks": NONE}
    return Upkeep(**{**well, "queues": {}, "stranded": [], **facts})


def a_worker(silence: float = 1.0, hostname: str = "host-1", jobs: int = 2) -> WorkerRecord:
    """A worker that was heard of so long ago."""
    moment: Any = None
    return WorkerRecord("w", hostname, 4711, moment, moment, 3600.0, silence, jobs)


def said(findings: Any) -> list[tuple[str, str]]:
    """Verdicts and facts."""
    every = [findings] if isinstance(findings, Finding) else [*findings]
    assert all(one.remedy for one in every if one.verdict in (Verdict.WARNING, Verdict.WRONG))
    assert not any(one.remedy for one in every if one.verdict is Verdict.OK)
    return [(str(one.verdict), one.fact) for one in every]


@pytest.mark.parametrize(
    ("version", "url", "name"),
    [
        ("PostgreSQL 15.4 (Debian) on x86", "postgresql://h/d", "PostgreSQL 15.4"),
        ("10.11.6-MariaDB-log", "mysql://h/d", "MariaDB 10.11.6"),
        ("8.4.2", "mysql://h/d", "MySQL 8.4.2"),
        ("3.45.1", "sqlite:///a", "SQLite 3.45.1"),
    ],
)
def test_the_name_of_a_server(version: str, url: str, name: str) -> None:
    """In few words, as people know it."""
    assert server.name_of(url, version) == name


@pytest.mark.parametrize(
    ("facts", "verdict", "fact"),
    [
        ({}, "ok", "answers in 1.0 ms."),
        ({"answer": 0.2}, "warning", "answers in 200.0 ms."),
        ({"is_read_only": True}, "wrong", "and is read-only."),
    ],
)
def test_the_database(facts: dict[str, Any], verdict: str, fact: str) -> None:
    """Whether it answers soon, and takes what is new; its password is not said."""
    [(found, words)] = said(server.database(URL, a_server(**facts)))
    assert (found, words.endswith(fact), "secret" in words) == (verdict, True, False)


@pytest.mark.parametrize(
    ("dialect", "facts", "verdict", "fact"),
    [
        ("postgresql", {}, "ok", "Our transactions are READ COMMITTED."),
        (
            "mysql",
            {"default_isolation": "REPEATABLE READ"},
            "ok",
            "Our transactions are READ COMMITTED (the server's default is REPEATABLE READ).",
        ),
        (
            "postgresql",
            {"isolation": "SERIALIZABLE"},
            "wrong",
            "Our transactions are SERIALIZABLE, and the protocol needs READ COMMITTED.",
        ),
        (
            "mysql",
            {"logs_statements": True},
            "wrong",
            "The server logs statements (binlog_format = STATEMENT), which it can't at READ COMMITTED.",
        ),
        ("sqlite", {"isolation": "WAL"}, "ok", "Our transactions begin IMMEDIATE, and the journal mode is WAL."),
        (
            "sqlite",
            {"isolation": "DELETE"},
            "warning",
            "The journal mode is DELETE, so that who writes keeps others from reading.",
        ),
    ],
)
def test_isolation(dialect: str, facts: dict[str, Any], verdict: str, fact: str) -> None:
    """Whether our transactions see what the protocol needs."""
    assert said(server.isolation(dialect, a_server(**facts))) == [(verdict, fact)]


@pytest.mark.parametrize(
    ("ahead", "verdict", "fact"),
    [
        (-0.4, "ok", "The database's clock and this machine's agree."),
        (12.0, "warning", "The database's clock is 12.0 s ahead of this machine's."),
        (-400.0, "wrong", "The database's clock is 400.0 s behind this machine's."),
    ],
)
def test_the_clock(ahead: float, verdict: str, fact: str) -> None:
    """A little apart is well; more is said, in which direction."""
    assert said(server.clock(a_server(ahead=ahead))) == [(verdict, fact)]


@pytest.mark.parametrize(
    ("facts", "verdict", "fact"),
    [
        ({}, "ok", "The last sweep was 7s ago. One comes each 15 s."),
        ({"swept": 59.0}, "ok", "The last sweep was 59s ago. One comes each 15 s."),
        ({"swept": 3600.0}, "warning", "The last sweep was 1h ago."),
        ({"swept": 3600.0, "unfinished": 2}, "wrong", "The last sweep was 1h ago. 2 batches unfinished."),
        ({"swept": None}, "warning", "There was no sweep yet."),
    ],
)
def test_the_sweep(facts: dict[str, Any], verdict: str, fact: str) -> None:
    """It may be late where there is nothing to repair."""
    assert said(upkeep.sweep(an_upkeep(**facts), SETTINGS)) == [(verdict, fact)]


def test_workers() -> None:
    """Who holds a lease, and who is silent, or dead."""
    every = [a_worker(), a_worker(2), a_worker(40), a_worker(90, jobs=1)]
    assert said(upkeep.workers(every, an_upkeep(), SETTINGS, "postgresql")) == [
        ("ok", "2 processes on host-1 hold leases and run 4 jobs."),
        ("warning", "host-1, process 4711, is silent for 40s."),
        ("warning", "host-1, process 4711, is silent for 1m, with 1 job."),
    ]
    [alone] = said(upkeep.workers(every[:1], an_upkeep(), SETTINGS, "postgresql"))
    assert alone == ("ok", "1 process on host-1 holds a lease and runs 2 jobs.")


@pytest.mark.parametrize(("unfinished", "verdict"), [(0, "warning"), (1, "wrong")])
def test_no_worker(unfinished: int, verdict: str) -> None:
    """That is wrong where there is something to do."""
    [(found, _)] = said(upkeep.workers([], an_upkeep(unfinished=unfinished), SETTINGS, "sqlite"))
    assert found == verdict


def test_workers_that_share_a_file() -> None:
    """A file's locks don't hold across machines."""
    every = [a_worker(), a_worker(hostname="host-2")]
    assert said(upkeep.workers(every, an_upkeep(), SETTINGS, "postgresql"))[1:] == []
    assert said(upkeep.workers(every, an_upkeep(), SETTINGS, "sqlite"))[1:] == [
        ("wrong", "Workers on 2 hosts share an SQLite file.")
    ]


@pytest.mark.parametrize(
    ("facts", "verdict", "fact"),
    [
        ({}, "ok", "Nothing is overdue, and no job waits in a queue."),
        ({"publishing": Due(3, 5.0)}, "ok", "Nothing is overdue, and no job waits in a queue."),
        ({"publishing": Due(3, 90.0)}, "warning", "3 jobs to be published, the first for 1m."),
        ({"releasing": Due(1, 90.0)}, "warning", "1 job to let others go, the first for 1m."),
        ({"callbacks": Due(1, 900.0)}, "warning", "1 callback due, the first for 15m."),
        ({"queues": {"celery": Due(7, 30.0)}}, "ok", "7 jobs in queue 'celery', the first for 30s."),
        ({"queues": {None: Due(7, 900.0)}}, "warning", "7 jobs in a queue that is not known, the first for 15m."),
        ({"stranded": ["b1"]}, "warning", "Nobody has decided what has nothing left to wait for: batch b1."),
    ],
)
def test_lag(facts: dict[str, Any], verdict: str, fact: str) -> None:
    """What is due is done within its time, or that is said."""
    assert said(upkeep.lag(an_upkeep(**facts), SETTINGS)) == [(verdict, fact)]


def an_app(answers: dict[str, Any] | None = None, **conf: Any) -> Any:
    """The part of an app that is looked at."""
    well = {"task_always_eager": False, "broker_transport_options": {}, "beat_schedule": {}}
    inspect = SimpleNamespace(active_queues=lambda: answers)
    control = SimpleNamespace(inspect=lambda **_: inspect)
    return SimpleNamespace(conf=SimpleNamespace(**{**well, **conf}), control=control, tasks={"shop.add": None})


@pytest.mark.parametrize(
    ("settings", "conf", "names"),
    [
        ({"sweep_interval": 90.0}, {}, "flows_sweep_interval"),
        ({"retention": 5.0}, {}, "flows_retention"),
        ({}, {"task_always_eager": True}, "task_always_eager"),
        ({}, {"broker_transport_options": {"visibility_timeout": 30}}, "visibility_timeout"),
    ],
)
def test_settings_that_do_not_go_together(settings: Any, conf: Any, names: str) -> None:
    """Each is named, ours and Celery's."""
    [(verdict, fact)] = said(app.settings(an_app(**conf), Settings(**settings)))
    assert (verdict, names in fact) == ("warning", True)
    assert said(app.settings(an_app(), SETTINGS)) == [("ok", "They go together.")]


def test_beat() -> None:
    """It may call the sweep, and need not."""
    mine = {"any": {"task": "celery_flows.reconcile", "schedule": 60.0}}
    assert "every 60.0" in said(app.beat(an_app(beat_schedule=mine)))[0][1]
    assert "need not be" in said(app.beat(an_app(beat_schedule={"x": {"task": "shop.add"}})))[0][1]


@pytest.mark.parametrize(
    ("answers", "waiting", "leases", "verdicts"),
    [
        (None, {}, 0, ["warning"]),
        (None, {"celery": Due(1, 1.0)}, 0, ["wrong"]),
        ({"w@h": [{"name": "celery"}]}, {"celery": Due(1, 1.0), None: Due(1, 1.0)}, 1, ["ok"]),
        ({"w@h": [{"name": "celery"}]}, {"reports": Due(1, 1.0)}, 1, ["ok", "wrong"]),
        ({"w@h": [{"name": "celery"}]}, {}, 0, ["wrong"]),
        ({"w@h": [{"name": "celery"}]}, {}, None, ["ok"]),
    ],
    ids=["nobody", "nobody for jobs", "all consumed", "one not", "without leases", "leases not known"],
)
def test_consumers(answers: Any, waiting: dict[str | None, Due], leases: int | None, verdicts: list[str]) -> None:
    """Whether each queue in which jobs wait is consumed, by workers that hold leases here."""
    assert [verdict for verdict, _ in said(app.consumers(an_app(answers), waiting, leases))] == verdicts


def test_tasks() -> None:
    """What unfinished work calls must be registered; of many that are not, some are named."""
    assert said(app.tasks(an_app(), {})) == [("ok", "No unfinished work calls one.")]
    well = [("ok", "What unfinished work calls is registered: 1 task.")]
    assert said(app.tasks(an_app(), {"shop.add": 3})) == well
    gone = {f"shop.gone_{number:02}": number for number in range(1, 13)}
    [(verdict, fact)] = said(app.tasks(an_app(), {"shop.add": 3, **gone}))
    assert verdict == "wrong"
    assert fact.startswith("Not registered here: shop.gone_01 (1 job), shop.gone_02 (2 jobs), ")
    assert fact.endswith("shop.gone_10 (10 jobs) and 2 more.")
