"""Enroll a batch of one job in a process that is patched to die on the way; prints the batch's id first."""

from __future__ import annotations

import sys

from acceptance.app import app

from celery_flows import Batch

batch = Batch.create(app=app)
for event in ("complete", "failure", "settled"):
    batch.on(event, app.signature("jobs.announce", (event,)))
print(batch.id, flush=True)
with batch.jobs():
    result = app.tasks["jobs.once"].apply_async((sys.argv[1],), queue=sys.argv[2])
    print(result.id, flush=True)
