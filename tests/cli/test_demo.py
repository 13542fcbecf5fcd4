"""The demo, run as a process: what it prints can be checked against the files."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from commands import BIN, Done, run

from celery_flows.cli.demo.files import Unsuitable, list_files
from celery_flows.cli.demo.tally import add_up, measure_file

#: Set where the demo runs, and no business of its.
ELSEWHERE = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "CELERY_FLOWS_DATABASE_URL": "sqlite:////no/where"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with folders, empty ones too, and files with odd names."""
    top = tmp_path / "input"
    (top / "deep er" / "über").mkdir(parents=True)
    (top / "empty").mkdir()
    for number in range(10):
        (top / "deep er" / f"{number}.txt").write_text("line\n" * number)
    (top / "deep er" / "über" / "no end").write_text("without an end")
    (top / "new\nline").write_bytes(b"\x00\n\xff")
    (top / "back\\slash").write_bytes(b"")
    (top / "link").symlink_to("/etc/passwd")
    if os.fsencode("\udcff") == b"\xff":
        (top / "\udcff").write_text("not UTF-8")
    return top


def demo(tmp_path: Path, *words: str | Path, **environment: str) -> Done:
    """Run the demo, with a temporary folder of the test's own."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return run("celery-flows", "demo", *words, TMPDIR=str(tmp_path / "tmp"), timeout=110, **environment)


def settled(done: Done) -> dict[str, Any]:
    """What the callback for settled printed, which it must have done once."""
    lines = [line for line in done.out.splitlines() if line.startswith("callback settled:")]
    assert len(lines) == 1
    summary: dict[str, Any] = json.loads(lines[0].partition(":")[2])
    return summary


def totals(folder: Path, leaving: str | None = None) -> dict[str, Any]:
    """The totals of a folder, counted here."""
    listed = list_files(folder)
    paths = [path for path in listed.every_file if path != leaving]
    return add_up(measure_file(str(folder), path) for path in paths).to_dict()


def test_embedded(tmp_path: Path, folder: Path) -> None:
    """Without any service, every file is a job, and callbacks write and print a manifest that is right."""
    done = demo(tmp_path, folder, **ELSEWHERE)
    assert (done.code, done.err) == (0, "")
    summary = settled(done)
    assert {name: summary[name] for name in totals(folder)} == totals(folder)
    assert (summary["status"], summary["failed"]) == ("complete", [])
    assert done.out.count("callback complete:") == 1
    assert "callback failure:" not in done.out
    (manifest,) = (tmp_path / "tmp").glob("*/manifest.json")
    assert len(json.loads(manifest.read_text())["entries"]) == summary["files"]


def test_for_programs(tmp_path: Path, folder: Path) -> None:
    """With --json each line is an object, what callbacks say too."""
    done = demo(tmp_path, folder, "--fail", "--json")
    assert (done.code, done.err) == (0, "")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert (lines[0]["files"], lines[-1]["is_right"], len(lines[-1]["failed"])) == (
        totals(folder)["files"],
        True,
        1,
    )
    assert sorted(line["callback"] for line in lines if "callback" in line) == ["failure", "settled"]
    assert all(line["progress"]["total"] for line in lines if "progress" in line)


def test_what_it_says_can_be_checked(tmp_path: Path, folder: Path) -> None:
    """The commands that it prints count and hash the same."""
    if not all(map(shutil.which, ("bash", "find", "xargs", "sort", "sha256sum"))):
        pytest.skip("needs find, sort and sha256sum")
    done = demo(tmp_path, folder)
    commands = [line for line in done.out.splitlines() if line.startswith("  (")]
    answers = [subprocess.check_output(["bash", "-c", command], text=True).split() for command in commands]
    summary = settled(done)
    assert answers == [
        [str(summary["files"])],
        [str(summary["lines"]), str(summary["bytes"])],
        [summary["sha256"], "-"],
    ]


def test_planted_failure(tmp_path: Path, folder: Path) -> None:
    """With --fail one job fails: failure is announced, the others run, and the manifest says which."""
    done = demo(tmp_path, folder, "--fail")
    assert done.code == 0
    summary = settled(done)
    assert summary["status"] == "failed"
    (failed,) = summary["failed"]
    assert "--fail" in failed["error"]
    assert {name: summary[name] for name in totals(folder)} == totals(folder, leaving=failed["path"])
    assert done.out.count("callback failure:") == 1
    assert "callback complete:" not in done.out


def test_standard_library(tmp_path: Path) -> None:
    """Without a path it works through Python's standard library, without what was installed into it."""
    done = demo(tmp_path, "--workers", "2")
    assert done.code == 0
    listed = list_files(Path(sysconfig.get_path("stdlib")), {"__pycache__", "site-packages", "dist-packages"})
    assert settled(done)["files"] == listed.count > 500


@pytest.mark.parametrize(
    ("database_kind", "broker"),
    [("postgresql", "redis_url"), ("mariadb", "rabbitmq_url")],
    indirect=["database_kind"],
)
def test_real_services(
    tmp_path: Path, folder: Path, database_url: str, broker: str, request: pytest.FixtureRequest
) -> None:
    """The same program runs on real databases and brokers, with a worker of its own."""
    broker_url = request.getfixturevalue(broker)
    done = demo(tmp_path, folder, "--fail", "--database-url", database_url, "--broker-url", broker_url)
    assert (done.code, done.err) == (0, "")
    summary = settled(done)
    assert (summary["status"], len(summary["failed"])) == ("failed", 1)
    assert summary["files"] == totals(folder)["files"] - 1


def test_terminal_gets_a_bar(tmp_path: Path, folder: Path) -> None:
    """On a terminal, with rich, there is a bar, and what callbacks print stands above it."""
    pytest.importorskip("rich")
    shown = on_terminal([BIN / "celery-flows", "demo", folder], tmp_path)
    assert "━━━" in shown
    assert "100 %" in shown
    assert "callback complete:" in shown


def on_terminal(command: list[str | Path], tmp_path: Path) -> str:
    """Run a command on a terminal, and return what it shows."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            # Linux says so at the end of a terminal.
            pass
        finally:
            os.close(ours)
        assert process.wait(timeout=60) == 0
    return shown.decode()


@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "There is no folder"), ("file", "is not a folder"), ("empty", "There are no files")],
)
def test_nothing_to_work_on(tmp_path: Path, name: str, words: str) -> None:
    """A path that is missing, a file, or empty is one clear line, and exit code 2."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty" / "er").mkdir(parents=True)
    done = demo(tmp_path, tmp_path / name)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_unreadable_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be read is named."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Unsuitable, match="input can't be read: Permission denied"):
        list_files(folder)


@pytest.mark.parametrize(
    ("option", "url", "code", "words"),
    [
        ("--broker-url", "amqp://me:secret@127.0.0.1:1//", 6, "can't be reached"),
        ("--broker-url", "carrier+pigeon://me:secret@host", 1, "can't be used"),
        ("--database-url", "postgresql://me:secret@127.0.0.1:1/shop", 6, "can't be reached"),
    ],
)
def test_service_is_away(tmp_path: Path, folder: Path, option: str, url: str, code: int, words: str) -> None:
    """A service that is not there is one clear line without the password."""
    done = demo(tmp_path, folder, option, url)
    assert done.code == code
    assert words in done.err
    assert done.err.count("\n") == 1
    assert "secret" not in done.err
