"""How much memory a process takes at its peak."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/self")


def growth(run: Callable[[], object]) -> float:
    """Run something, and return by how many MiB the process grew at its peak."""
    gc.collect()
    if not (_PROC / "clear_refs").exists():
        # Not Linux: what the process took at its peak before this can't be forgotten.
        before = _peak()
        run()
        return _peak() - before
    (_PROC / "clear_refs").write_text("5")  # the peak is what there is now
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status(name: str) -> float:
    lines = (_PROC / "status").read_text().splitlines()
    [found] = [line for line in lines if line.startswith(f"{name}:")]
    return int(found.split()[1]) / 1024
