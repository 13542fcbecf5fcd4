"""examples/plain, with a worker process on Redis and SQLite."""

from __future__ import annotations

from pathlib import Path

from projects import ROOT, Project, wait_until


def test_every_order_has_an_invoice_and_the_summary_names_the_one_that_failed(
    tmp_path: Path, redis_url: str
) -> None:
    """One order in ten fails, which the batch tolerates: its complete callback runs, and lists it."""
    project = Project(ROOT / "examples/plain", tmp_path, redis_url, f"sqlite:///{tmp_path / 'flows.sqlite3'}")
    project.run("-m", "celery", "-A", "invoices", "flows", "upgrade")
    summary = tmp_path / "out/summary.txt"
    with project.worker("invoices", "--concurrency", "2"):
        said = project.run(str(ROOT / "examples/plain/run_month.py"), "out")
        wait_until(lambda: summary.exists() and bool(summary.read_text()))
    assert "complete {'total': 10, 'complete': 9, 'failed': 1, 'cancelled': 0, 'pending': 0}" in said
    assert summary.read_text() == "9 of 10 invoices written\norder 1004: InvalidOperation\n"
    assert len(list((tmp_path / "out").glob("1*.txt"))) == 9
