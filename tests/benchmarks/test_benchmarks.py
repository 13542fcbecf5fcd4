"""The benchmarks run; what they measure is nobody's test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from projects import ROOT

from benchmarks.case import Case, Of, Question, at_least, at_most
from benchmarks.compare import compare
from benchmarks.services import World

#: Seconds for a run, on a busy machine.
_PATIENCE = 100

#: By what they need: those with workers share the workers of one run.
CASES = {
    "workers": ("fanout", "drain", "drain-10ms", "untracked", "latency", "join", "sequence"),
    "database": ("hot", "million", "failures", "grow", "sweep"),
}


def _run(cases: Sequence[str], out: Path, redis_url: str) -> str:
    words = [*cases, "--n", "4", "--repetitions", "1", "--database", "sqlite", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        env={**os.environ, "FLOWS_TEST_REDIS_URL": redis_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=_PATIENCE)
    finally:
        # It ends its workers, unless it is ended itself.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    return said


@pytest.mark.parametrize("cases", CASES.values(), ids=CASES)
def test_a_small_run_answers_each_cases_questions_and_writes_them_down(
    tmp_path: Path, redis_url: str, cases: Sequence[str]
) -> None:
    """Every case prints its table, and beside it there is a JSON file with what the table shows and each run."""
    said = _run(cases, tmp_path, redis_url)
    measured: dict[str, dict[str, Any]] = {}
    for file in tmp_path.glob("*.json"):
        found = json.loads(file.read_text())
        measured[found["case"]] = found
    assert set(measured) == set(cases)
    for case, found in measured.items():
        table = said.partition(f"\n{case}: ")[2].partition("\n\n")[0]
        assert found["rows"]
        for row in found["rows"]:
            assert len(row["values"]) == found["repetitions"] == 1
            assert row["value"] >= 0
            [line] = [one for one in table.splitlines() if _is_about(one, row)]
            assert row["target"] in line
            assert line.count(" met ") + line.count(" MISSED ") == (row["is_met"] is not None)


def _is_about(line: str, row: dict[str, Any]) -> bool:
    words = f"{row['figure']} {row['peer'] or '-'} "
    return " ".join(line.split()).startswith(words)


def test_what_is_missed_is_said_to_be_missed() -> None:
    """A figure beyond its target, or an interval beyond what is asked of it, is printed as such."""
    sides = {
        "ours": lambda _world, _n: {"s": 12.0, "rows": 0.0},
        "peer": lambda _world, _n: {"s": 10.0},
    }
    to_peer = (Of("ours", "s"), Of("peer", "s"))
    questions = [
        Question(*to_peer, at_most(1.1)),
        Question(*to_peer, at_most(1.3)),
        Question(*to_peer, at_least(1.3)),
        Question(*to_peer, {"redis": at_least(1.1), "rabbitmq": at_least(2)}),
        Question(*to_peer, at_most(1.3), upper_under=1.1),
        Question(*to_peer),
        Question(Of("ours", "rows"), target=at_most(0)),
    ]
    world: Any = SimpleNamespace(broker="redis")
    rows = compare(Case("case", "about", 1, sides, questions), world, 1, 5)
    assert [row.is_met for row in rows] == [False, True, False, True, False, None, True]
    assert [row.value for row in rows] == [pytest.approx(1.2)] * 6 + [0]


def test_sides_take_turns_there_and_back() -> None:
    """What gets slower in the course of the time concerns both sides alike; ratios are of runs side by side."""
    ran: list[str] = []

    def side(name: str) -> Any:
        def run(_world: World, _n: int) -> dict[str, float]:
            ran.append(name)
            return {"s": float(len(ran))}

        return run

    case = Case("case", "about", 1, {name: side(name) for name in ("ours", "peer")}, [], warms_up=False)
    assert compare(case, SimpleNamespace(broker="redis"), 1, 3) == []  # type: ignore[arg-type]
    assert ran == ["ours", "peer", "peer", "ours", "ours", "peer"]
