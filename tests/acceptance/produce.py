"""Enroll a batch with a nested child once per fault, in a process of its own: produce.py POINT=ACTION...

For each it prints the id of the batch that counts, or of the one that its producer died with.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import acceptance.app as worker

from celery_flows import Batch

#: The folder in which faults are armed.
FAULTS: Final = "FLOWS_ACCEPTANCE_FAULTS"


def whole_batch(app: Any, say: Any = lambda _: None) -> str:
    """Enroll jobs that end in all ways, a nested child, and callbacks that write."""
    tasks, record = app.tasks, app.tasks["jobs.record"]
    batch = Batch.create(app=app, on_loss="retry", tolerate=1)
    say(batch.id)
    child = None
    for event in ("complete", "settled"):
        batch.on(event, record.s(event))
    with batch.jobs():
        tasks["jobs.write"].delay(f"{batch.id} job")
        tasks["jobs.write"].delay(f"{batch.id} retried", "retry")
        tasks["jobs.broken"].delay()
        child = Batch.create(app=app, on_loss="retry")
        child.on("complete", record.si(batch.id, "child"))
        with child.jobs():
            tasks["jobs.add"].delay(1, 1)
    return batch.id


def persist(write: Any) -> None:
    """Start anew where an error leaves the block and nothing has begun, as a program would."""
    ids: list[str] = []
    while True:
        try:
            whole_batch(worker.app, ids.append)
        except Exception:
            if ids and Batch.get(ids[-1], app=worker.app).status != "pending":
                break
        else:
            break
    write(ids[-1])


def main(cases: list[str]) -> None:
    """Fork for each case, from a process that has opened nothing."""
    folder = Path(os.environ[FAULTS])
    for case in cases:
        point, action = case.split("=")
        if point:
            (folder / f"{point}={action}").touch()
        (folder / f"{point}.go").touch()
        child = os.fork()
        if not child:
            _produce(action)
        os.waitpid(child, 0)


def _produce(action: str) -> None:
    def say(batch_id: str) -> None:
        print(batch_id, flush=True)

    if action == "crash":
        whole_batch(worker.app, say)
    else:
        persist(say)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
