"""examples/flask, with a worker process on Redis and PostgreSQL, and requests through Flask's test client."""

from __future__ import annotations

from pathlib import Path

from projects import ROOT, Project, wait_until

REQUESTS = """
import newsletter
from sqlalchemy.exc import IntegrityError

app = newsletter.create_app()
app.testing = True
client = app.test_client()
try:
    client.post("/newsletters", json={"subject": ""})
except IntegrityError:
    print("refused")
with newsletter.engine.connect() as connection:
    print("batches", connection.exec_driver_sql("SELECT count(*) FROM flows_batches").scalar())
    print("jobs", connection.exec_driver_sql("SELECT count(*) FROM flows_jobs").scalar())
answer = client.post("/newsletters", json={"subject": "Hello"})
print(answer.status_code)
newsletter.Batch.get(answer.json["id"]).wait(30)
print(client.get(answer.json["progress"]).json)
print(client.get("/newsletters/nonsense").status_code)
"""


def test_a_request_enrolls_in_its_own_transaction_and_tasks_run_in_flasks_context(
    tmp_path: Path, redis_url: str, postgres_url: str
) -> None:
    """A request that fails leaves no batch; one that succeeds sends every mail, each task in Flask's context."""
    project = Project(ROOT / "examples/flask", tmp_path, redis_url, postgres_url)
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    report = outbox / "report.txt"
    with project.worker("make_celery", "--pool", "threads", "--concurrency", "2"):
        said = project.run("-c", REQUESTS).splitlines()
        wait_until(lambda: report.exists() and bool(report.read_text()))
    assert said[:4] == ["refused", "batches 0", "jobs 0", "202"]
    assert "'complete': 25" in said[4]
    assert "'status': 'complete'" in said[4]
    assert said[5] == "404"
    assert report.read_text() == "25 of 25 sent"
    assert len(list(outbox.glob("reader*"))) == 25
