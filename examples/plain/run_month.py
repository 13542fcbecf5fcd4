"""Write the invoices of a month: `python run_month.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from invoices import alert, order_numbers, write_invoice, write_summary

from celery_flows import Batch


def main(folder: str) -> None:
    """Enroll the jobs, wait until the batch is finished, and say how it went."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    batch = Batch.create(description=f"Invoices in {folder}", tolerate="10%")
    batch.on("complete", write_summary.s(folder))
    batch.on("failure", alert)
    with batch.jobs():
        for number in order_numbers():
            write_invoice.delay(folder, number)
    print("enrolled", batch.progress.total)
    status = batch.wait(timeout=60)
    print(status, dict(batch.progress))


if __name__ == "__main__":
    main(sys.argv[1])
