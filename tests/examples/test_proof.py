"""examples/proof, with a worker process on Redis and SQLite: the order of a nested flow, held against its plan."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from projects import ROOT, Project

PROOF = ROOT / "examples/proof"

Lines = list[list[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Project:
    """The project with its worker, and the recording of one run."""
    scratch = tmp_path_factory.mktemp("proof")
    project = Project(PROOF, scratch, redis_url, f"sqlite:///{scratch / 'flows.sqlite3'}")
    project.run("-m", "celery", "-A", "night", "flows", "upgrade")
    with project.worker("night", "--concurrency", "4"):
        said = project.run(str(PROOF / "prove.py"), "recording.jsonl")
    assert said.endswith("32 lines, 25 orders, none violated\n"), said
    return project


def test_the_recording_is_of_many_processes(project: Project) -> None:
    """Jobs that the plan has side by side did overlap: the order was not kept by there being no other."""
    running, most = 0, 0
    for event, _ in recording(project):
        running += 1 if event == "begin" else -1
        most = max(most, running)
    assert most > 1


def recording(project: Project) -> Lines:
    """The lines of the run."""
    text = (project.scratch / "recording.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def swapped(before: str, after: str) -> Callable[[Lines], Lines]:
    """A job's beginning recorded where another had its end, and the other way round."""
    end, begin = ["end", f"night.{before}"], ["begin", f"night.{after}"]
    return lambda lines: [begin if line == end else end if line == begin else line for line in lines]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swapped("close_books", "report"), "night.report began before night.close_books had ended"),
        (swapped("stamp", "Letters.post"), "night.Letters.post began before night.stamp had ended"),
        (lambda lines: [*lines, lines[0]], "night.lock_doors: begin was recorded 2 times, not 1"),
        (lambda lines: lines[::-1], "night.Letters.post ended before it began"),
    ],
    ids=["behind a flow", "in a flow", "twice", "backwards"],
)
def test_a_violated_order_is_said(project: Project, change: Callable[[Lines], Lines], said: str) -> None:
    """A recording that is not as the plan says ends the program with 1, and names the jobs."""
    wrong = project.scratch / "wrong.jsonl"
    wrong.write_text("".join(json.dumps(line) + "\n" for line in change(recording(project))))
    done = subprocess.run(
        [sys.executable, str(PROOF / "prove.py"), str(wrong), "--only-check"],
        cwd=project.scratch,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
    assert done.stderr == ""
