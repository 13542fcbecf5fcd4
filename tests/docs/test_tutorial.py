"""The tutorial's project, with a worker process on Redis and SQLite."""

from __future__ import annotations

from pathlib import Path

from projects import ROOT, Project, wait_until


def test_the_tutorials_programs_do_what_it_says(tmp_path: Path, redis_url: str) -> None:
    """All jobs run and the callback follows; with an entry that does not exist the batch fails, and ops hear."""
    project = Project(ROOT / "examples/shop", tmp_path, redis_url, f"sqlite:///{tmp_path / 'shop.sqlite3'}")
    fan_out = str(ROOT / "examples/shop/fan_out.py")
    log = tmp_path / "worker.log"
    project.run("-m", "celery", "-A", "shop", "flows", "upgrade")
    with project.worker("shop", "--concurrency", "2"):
        said = project.run(fan_out)
        assert "complete {'total': 100, 'complete': 100, 'failed': 0, 'cancelled': 0, 'pending': 0}" in said
        wait_until(lambda: "rebuilding leaderboard 42 after 100 jobs" in log.read_text(), log.read_text)
        said = project.run(fan_out, "1", "2", "-1", "3")
        assert "failed {'total': 4, 'complete': 3, 'failed': 1, 'cancelled': 0, 'pending': 0}" in said
        wait_until(lambda: "alert: shop.score[-1]: there is no entry -1" in log.read_text(), log.read_text)
    assert log.read_text().count("rebuilding leaderboard") == 1
