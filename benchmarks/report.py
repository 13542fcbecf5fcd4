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
from typing import Any

from benchmarks.compare import Row

_PACKAGES = ("celery", "kombu", "SQLAlchemy", "celery-flows")


def print_table(rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Print a line per peer. A ratio above 1 says that ours is faster."""
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{'case':8} {'peer':16} {'ours/s':>9} {'peer/s':>9} {'ratio':>7}   min to max")
    for row in rows:
        spread = f"{min(row.ratios):.2f} to {max(row.ratios):.2f}"
        print(
            f"{row.case:8} {row.peer:16} {row.ours_rate:9,.0f} {row.peer_rate:9,.0f} {row.ratio:7.2f}   {spread}"
        )


def write_json(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> Path:
    """Write everything that was measured, and on what."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
    measured = [asdict(row) | {"ratio": row.ratio} for row in rows]
    everything = {**facts, "cores": os.cpu_count(), "versions": versions, "rows": measured}
    file.write_text(json.dumps(everything, indent=2))
    return file
