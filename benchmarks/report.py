"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.case import Case
from benchmarks.compare import Row

_PACKAGES: Final = ("celery", "kombu", "SQLAlchemy", "celery-flows")

_HEAD: Final = ("figure", "peer", "ours", "peer's", "ratio", "target", "", "min to max", "")

_VERDICTS: Final = {True: "met", False: "MISSED", None: ""}


def print_table(case: Case, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Print a line per question. Figures are medians; the ratio is the median of ours by theirs, run for run."""
    print(f"\n{case.name}: {case.about}")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    lines = [_HEAD, *(_line(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    for line in lines:
        cells = [
            text.ljust(width) if column < 2 or column > 4 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip(), flush=True)


def _line(row: Row) -> tuple[str, ...]:
    return (
        row.figure,
        row.peer or "-",
        _number(median(row.ours)),
        _number(median(row.theirs)) if row.theirs else "-",
        _number(row.value) if row.peer else "-",
        row.target or "-",
        _VERDICTS[row.is_met],
        f"{_number(min(row.values))} to {_number(max(row.values))}",
        _interval(row),
    )


def _interval(row: Row) -> str:
    if row.interval is None or not row.bounds_interval:
        return ""
    return f"95 %: {_number(row.interval[0])} to {_number(row.interval[1])}"


def _number(value: float) -> str:
    """Three digits that say something."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def write_json(case: Case, rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> Path:
    """Write everything that was measured, and on what."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{case.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
    measured = [asdict(row) for row in rows]
    everything = {"case": case.name, **facts, "cores": os.cpu_count(), "versions": versions, "rows": measured}
    file.write_text(json.dumps(everything, indent=2))
    return file
