"""What tests of memories share: the least that keeps them, merges, and a job that does as its call says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from celery import Celery

from celery_flows import Batch


class DictMemory:
    """The least that a memory may be."""

    is_away = False

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, str]] = {}

    def write(self, run_id: str, mapping: Mapping[str, str | None]) -> None:
        run = self.runs.setdefault(run_id, {})
        for key, text in mapping.items():
            run.pop(key, None)
            if text is not None:
                run[key] = text

    def read(self, run_id: str, keys: Collection[str] | None) -> dict[str, str]:
        run = self.runs[run_id]
        return {key: text for key, text in run.items() if keys is None or key in keys}

    def clear(self, run_id: str) -> None:
        if self.is_away:
            raise OSError("no route")
        self.runs.pop(run_id, None)


def best(kept: Any, given: Any) -> Any:
    """A merge of the user's own."""
    return given if kept is None else max(kept, given)


MERGES = {"total": "sum", "lines": "append", "words": "union", "*.best": best}


def job(app: Celery, *acts: Any, batch: Batch | None = None) -> Batch:
    """Run one job that does so with its run's memory."""
    with (batch := batch or Batch.create()).jobs():
        app.tasks["shop.keep"].delay(*acts)
    return batch
