"""One batch: a job for each entry, and one callback when all are done."""

import sys

from shop import alert_ops, entries, rebuild_cache, score

from celery_flows import Batch

entry_ids = [int(word) for word in sys.argv[1:]] or [entry.id for entry in entries]

batch = Batch.create(description="Rescore leaderboard 42", context={"leaderboard_id": 42})
batch.on("complete", rebuild_cache)
batch.on("failure", alert_ops)
with batch.jobs():
    for entry_id in entry_ids:
        score.delay(entry_id)

print("batch", batch.id)
batch.wait(timeout=60)
print(batch.status, dict(batch.progress))
