"""The cases, by name: each is a file of its own."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Case
from benchmarks.cases import (
    drain,
    drain_10ms,
    failures,
    fanout,
    grow,
    hot,
    hot_pgbench,
    join,
    latency,
    million,
    sequence,
    sweep,
    untracked,
)

_MODULES: Final = (
    fanout,
    drain,
    drain_10ms,
    untracked,
    latency,
    hot,
    hot_pgbench,
    million,
    failures,
    grow,
    join,
    sequence,
    sweep,
)

CASES: Final[dict[str, Case]] = {module.CASE.name: module.CASE for module in _MODULES}
