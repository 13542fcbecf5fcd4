"""Invoices of a month: one job per order, and a summary when all are done."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

from celery import Celery

from celery_flows import Flows, current_job

app = Celery("invoices", broker="redis://localhost/0")
flows = Flows(app, database_url="sqlite:///invoices.sqlite3")

ORDERS = Path(__file__).with_name("orders.csv")


def order_numbers() -> list[int]:
    """The numbers of all orders."""
    with ORDERS.open() as file:
        return [int(row["number"]) for row in csv.DictReader(file)]


@app.task
def write_invoice(folder: str, number: int) -> None:
    """Write the invoice of one order. An order whose price is not a number fails."""
    with ORDERS.open() as file:
        order = next(row for row in csv.DictReader(file) if int(row["number"]) == number)
    total = int(order["pieces"]) * Decimal(order["price"])
    Path(folder, f"{number}.txt").write_text(f"{order['customer']}: {total} EUR\n")


@app.task
def write_summary(batch_id: str, folder: str) -> None:
    """The callback: say what was written and what was not."""
    batch = current_job().batch
    lines = [f"{batch.progress.complete} of {batch.progress.total} invoices written"]
    lines += [f"order {job.args[1]}: {job.error_class}" for job in batch.failed_jobs]
    Path(folder, "summary.txt").write_text("\n".join(lines) + "\n")


@app.task
def alert(batch_id: str) -> None:
    """The other callback: more went wrong than we tolerate."""
    print(f"batch {batch_id} has failed")
