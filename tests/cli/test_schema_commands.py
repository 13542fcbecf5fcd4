"""Commands for the tables, run as processes: what they do, say, and exit with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, run

from celery_flows.store.revisions import HEAD

NewUrl = Callable[[], str]

PROJECT = """
from celery import Celery
from celery_flows import Flows
app = Celery("shop", broker="memory://")
Flows(app, database_url="sqlite:///shop.sqlite3", table_prefix="shop_")
"""


def flows(url: str, *words: str) -> Done:
    """Run `celery-flows` on a database."""
    return run("celery-flows", "--database-url", url, *words)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a user's app in it."""
    (tmp_path / "shop.py").write_text(PROJECT)
    return tmp_path


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_from_nothing_to_the_latest_and_back(new_database_url: NewUrl) -> None:
    """The check says what to run, upgrade makes it so, current shows it, and downgrade takes it back."""
    url = new_database_url()
    assert flows(url, "current") == (0, "none: there are no tables yet\n", "")
    missing = flows(url, "check")
    assert (missing.code, missing.out) == (1, "")
    assert "celery-flows --database-url URL upgrade" in missing.err
    assert flows(url, "upgrade") == (0, f"The tables are at revision {HEAD}.\n", "")
    assert flows(url, "current") == (0, f"{HEAD} (the latest)\n", "")
    assert flows(url, "check") == (0, f"The tables fit: they are at revision {HEAD}.\n", "")
    assert flows(url, "downgrade", "--yes", "base") == (
        0,
        "The tables are at revision base: there are none.\n",
        "",
    )
    assert flows(url, "check").code == 1


def test_downgrade_asks(tmp_path: Path) -> None:
    """Without a yes nothing is dropped."""
    url = f"sqlite:///{tmp_path / 'flows.sqlite3'}"
    flows(url, "upgrade")
    done = flows(url, "downgrade", "-1")
    assert (done.code, done.err.endswith("say --yes.\n")) == (2, True)
    assert flows(url, "check").code == 0


def test_from_the_app(project: Path) -> None:
    """`celery -A project flows` knows database and prefix from the app."""
    assert run("celery", "-A", "shop", "flows", "check", cwd=project).code == 1
    assert run("celery", "-A", "shop", "flows", "upgrade", cwd=project).code == 0
    assert run("celery", "-A", "shop", "flows", "check", cwd=project).code == 0
    assert (project / "shop.sqlite3").exists()
    assert "CREATE TABLE shop_jobs" in run("celery", "-A", "shop", "flows", "sql", cwd=project).out


def test_environment_goes_first(project: Path) -> None:
    """The database named in the environment is the one that is meant."""
    done = run(
        "celery", "-A", "shop", "flows", "upgrade", cwd=project, CELERY_FLOWS_DATABASE_URL="sqlite:///env.sqlite3"
    )
    assert done.code == 0
    assert (project / "env.sqlite3").exists()
    assert not (project / "shop.sqlite3").exists()


def test_reconcile(project: Path) -> None:
    """The command reconcile makes one pass of the sweep, and says what it repaired."""
    run("celery", "-A", "shop", "flows", "upgrade", cwd=project)
    done = run("celery", "-A", "shop", "flows", "reconcile", cwd=project)
    assert done.code == 0
    assert done.out.startswith("Jobs of dead workers given up: 0\nMessages published: 0\n")


TASK = """
app.conf.update(flows_lease_timeout=0.4, flows_heartbeat_interval=0.1)
@app.task
def add(number): pass
"""

ENROLL = """
import shop
from celery_flows import Batch
with Batch.create(app=shop.app).jobs():
    for number in range(3):
        shop.add.delay(number)
"""


def test_reconcile_publishes_what_was_left(project: Path) -> None:
    """Jobs that were enrolled while the broker was away are published, and said to be."""
    with (project / "shop.py").open("a") as module:
        module.write(TASK)
    run("celery", "-A", "shop", "flows", "upgrade", cwd=project)
    run("python", "-c", ENROLL, cwd=project, CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    done = run("celery", "-A", "shop", "flows", "reconcile", cwd=project)
    assert done.code == 0
    assert "Messages published: 3\n" in done.out


def test_reconcile_without_tables(project: Path) -> None:
    """Any command that needs the tables says how to make them."""
    done = run("celery", "-A", "shop", "flows", "reconcile", cwd=project)
    assert done.code == 1
    assert "flows upgrade" in done.err


def test_reconcile_needs_the_app(tmp_path: Path) -> None:
    """Without an app there is no broker to publish to."""
    done = flows(f"sqlite:///{tmp_path / 'flows.sqlite3'}", "reconcile")
    assert done.code == 2
    assert "celery -A your_project flows" in done.err


def test_app_without_flows(tmp_path: Path) -> None:
    """An app that Flows was not installed on gets the line to write."""
    (tmp_path / "bare.py").write_text("from celery import Celery\napp = Celery('bare')\n")
    done = run("celery", "-A", "bare", "flows", "check", cwd=tmp_path)
    assert done.code == 2
    assert "Flows(app, database_url=...)" in done.err


def test_app_option_in_the_wrong_place(project: Path) -> None:
    """Celery's own advice about -A survives in our commands."""
    done = run("celery", "flows", "upgrade", "-A", "shop", cwd=project)
    assert done.code == 2
    assert "as a global option" in done.err


def test_sql_needs_no_database() -> None:
    """The command sql prints what an upgrade would say, in the dialect that is asked for or that the URL names."""
    written = run("celery-flows", "--schema", "batches", "sql", "--dialect", "postgresql")
    assert written.code == 0
    assert "CREATE TABLE batches.flows_jobs" in written.out
    assert "ENGINE=InnoDB" in flows("mysql://nobody@127.0.0.1:1/none", "sql").out


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:secret@127.0.0.1:1/shop?application_name=secret", "Connection refused"),
        ("mysql://me:secret@127.0.0.1:1/shop", "Can't connect"),
        ("sqlite:////nowhere/to/be/found.sqlite3", "unable to open"),
    ],
)
def test_unreachable_database(url: str, words: str) -> None:
    """A database that can't be reached is one line without the password, and exit code 6."""
    done = flows(url, "check")
    assert (done.code, done.out) == (6, "")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["check"], 2, "CELERY_FLOWS_DATABASE_URL"),
        (["--database-url", "me:secret@host", "check"], 1, "postgresql+psycopg://"),
        (["--database-url", "sqlite:///x", "--table-prefix", "no good", "check"], 1, "letters, digits"),
        (["sql", "--dialect", "oracle"], 2, "'postgresql', 'mysql', 'mariadb', 'sqlite'"),
        (["--database-url", "sqlite:///x", "upgrade", "0815"], 1, "0815"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_wrong_use(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    """What was wrong is said, without a traceback, and without what a URL may hold."""
    done = run("celery-flows", *words, cwd=tmp_path)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert "secret" not in done.err


def test_help_names_commands_and_exit_codes() -> None:
    """Both ways in list their commands; Celery's own help still works beside us."""
    ours, theirs = run("celery-flows", "--help"), run("celery", "--help")
    for command in ("upgrade", "downgrade", "current", "check", "sql", "reconcile", "demo", "Exit codes"):
        assert command in ours.out
    assert "flows" in theirs.out
    assert "could not be loaded" not in theirs.out + theirs.err


def test_version() -> None:
    """The version is that of the installed package."""
    assert run("celery-flows", "--version").out.startswith("celery-flows, version ")
