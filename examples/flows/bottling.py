"""A batching task: labels for all bottles that were brewed, a case at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from celery_flows import Batch, BatchingTask

BREWS = Path(__file__).with_name("brews.csv")


class BottleBeer(BatchingTask):
    """A job for each case; then a note for the delivery."""

    process_options: ClassVar[dict[str, Any]] = {"acks_late": True}

    def split(self, folder: str, size: int = 12) -> Iterator[dict[str, Any]]:
        """Break the brews into cases."""
        with BREWS.open(newline="") as file:
            for brew in csv.DictReader(file):
                bottles = int(brew["bottles"])
                for first in range(1, bottles + 1, size):
                    last = min(first + size - 1, bottles)
                    yield {"folder": folder, "beer": brew["beer"], "first": first, "last": last}

    def process(self, case: dict[str, Any]) -> None:
        """Write the labels of one case."""
        labels = [f"{case['beer']} no. {number}\n" for number in range(case["first"], case["last"] + 1)]
        Path(case["folder"]).mkdir(parents=True, exist_ok=True)
        Path(case["folder"], f"{case['beer']}-{case['first']:04}.txt").write_text("".join(labels))

    def on_complete(self, batch: Batch) -> None:
        """Write how many cases there are."""
        folder = batch.completed_jobs[0].args[0]["folder"]
        Path(folder, "delivery.note").write_text(f"{batch.progress.complete} cases\n")
