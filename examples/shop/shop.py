"""The project that the documentation's examples speak of: a shop with a leaderboard."""

from collections import namedtuple

from celery import Celery

from celery_flows import Flows, current_job

app = Celery("shop", broker="redis://localhost/0")
flows = Flows(app, database_url="sqlite:///shop.sqlite3")

Entry = namedtuple("Entry", "id player")
entries = [Entry(number, f"player {number}") for number in range(100)]


@app.task
def score(entry_id):
    """Rescore one entry."""
    if entry_id < 0:
        raise ValueError(f"there is no entry {entry_id}")


@app.task
def rebuild_cache(batch_id):
    """What happens once, when all entries are scored."""
    batch = current_job().batch
    leaderboard_id = batch.context["leaderboard_id"]
    print(f"rebuilding leaderboard {leaderboard_id} after {batch.progress.total} jobs")


@app.task
def alert_ops(batch_id):
    """What happens once, when an entry can't be scored."""
    failed = current_job().batch.failed_jobs[0]
    print(f"alert: {failed.task}{failed.args}: {failed.error_message}")
