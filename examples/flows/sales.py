"""An orchestration: import a file of sales, part by part."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from work import app

from celery_flows import Orchestration

SALES = Path(__file__).with_name("sales.csv")

#: Lines of the file that one job reads.
PART = 50


def lines() -> Iterator[dict[str, str]]:
    """The sales, one by one."""
    with SALES.open(newline="") as file:
        yield from csv.DictReader(file)


@app.task
def prepare(folder: str) -> None:
    """Make an empty folder for the parts."""
    Path(folder).mkdir(parents=True, exist_ok=True)


@app.task
def import_part(folder: str, first: int) -> None:
    """Add up one part, by region."""
    totals: Counter[str] = Counter()
    for number, line in enumerate(lines()):
        if first <= number < first + PART:
            totals[line["region"]] += int(Decimal(line["price"]) * 100) * int(line["pieces"])
    Path(folder, f"part-{first:05}.json").write_text(json.dumps(totals))


@app.task
def count_lines(folder: str) -> None:
    """Count the lines, by region."""
    Path(folder, "lines.json").write_text(json.dumps(Counter(line["region"] for line in lines())))


@app.task
def check_lines(folder: str) -> None:
    """See that no region is unknown."""
    unknown = json.loads(Path(folder, "lines.json").read_text()).keys() - {"north", "south", "east", "west"}
    if unknown:
        raise ValueError(f"unknown regions: {sorted(unknown)}")


@app.task
def report(folder: str) -> None:
    """Put the parts together."""
    totals: Counter[str] = Counter()
    for part in sorted(Path(folder).glob("part-*.json")):
        totals.update(json.loads(part.read_text()))
    counts = json.loads(Path(folder, "lines.json").read_text())
    rows = [f"{region},{counts[region]},{cents / 100:.2f}\n" for region, cents in sorted(totals.items())]
    Path(folder, "report.csv").write_text("region,sales,total\n" + "".join(rows))


class ImportSales(Orchestration):
    """All parts side by side, a check beside them, and a report when both are done."""

    def plan(self, folder: str) -> None:
        """Say what is run."""
        self.run(prepare, folder)
        with self.in_parallel():
            for first in range(0, sum(1 for _ in lines()), PART):
                self.run(import_part, folder, first)
            with self.in_series():
                self.run(count_lines, folder)
                self.run(check_lines, folder)
        self.run(report, folder)
