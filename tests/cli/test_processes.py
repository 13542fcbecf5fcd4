"""Commands run as processes on real services, with real workers and on terminals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from commands import BIN, OURS, Done, here, records, run
from projects import Project
from scenes import run_job, running_batch

from celery_flows.store.database import Database

SHOP = """
from celery import Celery
from celery_flows import Flows

app = Celery("shop")
app.conf.update(task_default_queue="{queue}", broker_connection_retry_on_startup=True)
Flows(app)

@app.task(name="shop.score")
def score(entry_id):
    if entry_id < 0:
        raise ValueError(f"there is no entry {{entry_id}}")
"""

ENROLL = """
from celery_flows import Batch
from shop import score

for entries, countdown in ((range(50), None), ([1, -17], None), ([1], 3600)):
    batch = Batch.create(description=f"{len(entries)} entries")
    with batch.jobs():
        for entry in entries:
            score.apply_async((entry,), countdown=countdown)
    print(batch.id)
"""


@pytest.mark.parametrize(
    ("database_kind", "broker"),
    [("postgresql", "redis_url"), ("mariadb", "rabbitmq_url")],
    indirect=["database_kind"],
)
def test_on_real_services(tmp_path: Path, database_url: str, broker: str, request: pytest.FixtureRequest) -> None:
    """What a worker makes of batches is seen and steered from outside, by output and exit codes as documented."""
    (tmp_path / "shop.py").write_text(SHOP.format(queue=tmp_path.name))
    project = Project(tmp_path, tmp_path, request.getfixturevalue(broker), database_url)
    environment = {name: project.environment[name] for name in OURS}

    def flows(*words: str) -> Done:
        return run("celery", "-A", "shop", "flows", *words, cwd=tmp_path, **environment)

    good, bad, later = project.run("-c", ENROLL).split()
    with project.worker("shop", "--pool", "solo", "--without-mingle", "--without-gossip"):
        watched = flows("watch", good, "--timeout", "60s", "--interval", "0.2")
        assert (watched.code, watched.err) == (0, "")
        assert watched.out.splitlines()[-1].startswith("complete: 50 of 50 jobs (100 %), ")
        assert here("watch", bad, "--timeout", "60", url=database_url).code == 1
        assert [one["state"] for one in records(here("workers", "--json", url=database_url))] == ["alive"]
        assert [one["round"] for one in records(flows("retry", bad, "--json"))] == [2]
        assert run("celery-flows", "watch", bad, "--timeout", "60", **environment).code == 1
    assert here("watch", later, "--timeout", "0", url=database_url).code == 4
    assert flows("cancel", later, "--yes") == (0, f"Cancelled batch {later} (1 job not started).\n", "")
    assert here("watch", later, url=database_url).code == 5
    [shown] = records(here("show", bad, "--json", url=database_url))
    [job] = shown["failed_jobs"]
    assert (shown["state"], shown["round"]) == ("failed", 2)
    assert (job["args"], job["error_message"], job["attempts"]) == ([-17], "there is no entry -17", 2)
    listed = records(here("list", "--description", "ENTRIES", "--json", url=database_url))
    assert [one["state"] for one in listed] == ["cancelled", "failed", "complete"]
    [failed] = records(here("jobs", bad, "--state", "failed", "--json", url=database_url))
    assert failed["id"] == job["id"]


# ---------------------------------------------------------------- terminals


class Terminal:
    """A command on a terminal: what it shows, and what is typed."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self.shown = ""

    def wait_for(self, words: str) -> None:
        """Read until it shows something."""
        deadline = time.monotonic() + 60
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self.shown += os.read(self._end, 4096).decode()

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._end, text.encode())

    def code(self) -> int:
        """Read to the end; how it ended."""
        with suppress(OSError):
            # Linux says so at the end of a terminal.
            while part := os.read(self._end, 4096):
                self.shown += part.decode()
        return self.process.wait(60)


@contextmanager
def terminal(url: str, *words: str, **environment: str) -> Iterator[Terminal]:
    """Run `celery-flows` on a terminal."""
    ours, theirs = pty.openpty()
    given = {"TERM": "xterm", "COLUMNS": "100", "CELERY_FLOWS_DATABASE_URL": url, **environment}
    command = [BIN / "celery-flows", *words]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | given, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


def test_watched_on_a_terminal(file_url: str) -> None:
    """There is a bar, as long as the words leave room, and without colours; Ctrl-C leaves the batch alone."""
    pytest.importorskip("rich")
    database = Database(file_url)
    batch_id, jobs = running_batch(database, 3)
    for job in jobs[:2]:
        run_job(database, job, batch_id)
    with terminal(file_url, "watch", batch_id, NO_COLOR="1", COLUMNS="70") as shown:
        shown.wait_for("2 of 3 jobs")
        shown.wait_for(" left")
        shown.process.send_signal(signal.SIGINT)
        assert shown.code() == 130
    assert "━━" in shown.shown
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", shown.shown) is None
    assert f"Watch it again: flows watch {batch_id}" in shown.shown
    database.close()


@pytest.mark.parametrize(("answer", "code", "state"), [("n", 1, "running"), ("y", 0, "cancelled")])
def test_asked_on_a_terminal(file_url: str, answer: str, code: int, state: str) -> None:
    """Before something is destroyed; what is not a yes is a no."""
    database = Database(file_url)
    batch_id, _ = running_batch(database)
    with terminal(file_url, "cancel", batch_id[:18]) as shown:
        shown.wait_for("? [y/N] ")
        shown.type(f"{answer}\n")
        assert shown.code() == code
    assert f"Cancel batch {batch_id} (1 job not started)? [y/N]" in shown.shown
    [found] = records(here("show", batch_id, "--json", url=file_url))
    assert found["state"] == state
    database.close()
