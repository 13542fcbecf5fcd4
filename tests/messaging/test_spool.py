"""The spool: calls in order, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from celery_flows.messaging.spool import Spool
from celery_flows.store.bulk import NewJob


def jobs(count: int, first: int = 0) -> list[NewJob]:
    """So many calls."""
    numbers = range(first, first + count)
    return [NewJob(f"id-{n}", "batch", "task", "shop.add", f'["é", {n}]', "{}", "{}") for n in numbers]


def flat(spool: Spool) -> list[NewJob]:
    """All calls of a spool."""
    return [job for chunk in spool for job in chunk]


def test_calls_come_back_in_order_as_often_as_asked() -> None:
    """Chunks in the file and the rest in memory are read in order, again and again."""
    spool, calls = Spool(3, NewJob), jobs(8)
    for call in calls:
        spool.append(call)
    assert len(spool) == 8
    assert [len(chunk) for chunk in spool] == [3, 3, 2]
    assert flat(spool) == flat(spool) == calls


def test_extending_and_going_on() -> None:
    """A spool takes over another's calls, and takes more after it has been read."""
    spool, other = Spool(3, NewJob), Spool(2, NewJob)
    for call in jobs(4):
        spool.append(call)
    for call in jobs(3, first=4):
        other.append(call)
    assert len(flat(spool)) == 4
    spool.extend(other)
    assert flat(spool) == jobs(7)


def test_the_file_goes_with_the_spool(tmp_path: Path) -> None:
    """Cleared or forgotten, a spool leaves no file, open or in the temporary folder."""
    script = """
import gc, os, sys, tempfile
tempfile.tempdir = folder = sys.argv[1]
from celery_flows.messaging.spool import Spool
from celery_flows.store.bulk import NewJob
def left():
    files = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return [name for name in files if name.startswith(folder)] + os.listdir(folder)
def filled():
    spool = Spool(1, NewJob)
    spool.append(NewJob("id", "batch", "task", "shop.add", "[]", "{}", "{}"))
    assert len(left()) == 1, left()
    return spool
spool = filled()
spool.clear()
assert len(spool) == 0 and list(spool) == [] and not left()
spool = filled()
del spool
gc.collect()
assert not left()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(tmp_path)], check=True, timeout=60)


def test_collecting_takes_no_memory(file_url: str) -> None:
    """200,000 calls in a block take less than 40 MiB more memory than a thousand."""
    script = """
import resource, sys
from celery import Celery
from celery_flows import Batch, Flows
app = Celery("shop", broker="memory://")
Flows(app, database_url=sys.argv[1])
@app.task
def add(x): ...
def collect(count):
    try:
        with Batch.create().jobs():
            for n in range(count):
                add.delay(n)
            raise InterruptedError
    except InterruptedError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(-collect(1000) + collect(200_000))
"""
    done = subprocess.run([sys.executable, "-c", script, file_url], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40
