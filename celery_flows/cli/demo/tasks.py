"""The demo's app: a task that measures a file, and callbacks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Queue

from celery_flows.batch import Batch
from celery_flows.cli.demo.tally import Measure, add_up, measure_file
from celery_flows.cli.live import say
from celery_flows.cli.output import as_json
from celery_flows.flows import Flows
from celery_flows.job import current_job

#: Set where the callbacks, which may run in a worker's process, speak to programs.
JSON_VARIABLE = "CELERY_FLOWS_DEMO_JSON"

#: How the lines begin that they write.
SAID = ("callback ", '{"callback": ')

#: Where, in the run's folder, jobs leave what they measured, and callbacks the whole.
MEASURES, MANIFEST = "measures", "manifest.json"


def queues_of(run: str) -> list[str]:
    """Where a run's messages go, so that nobody else's worker takes them: jobs, and callbacks."""
    return [run, f"{run}-callbacks"]


def make_app(run: str, **settings: Any) -> Celery:
    """Make the app. Broker and database are those of the environment.

    Args:
        run: the run's name.
        settings: for `Flows`.
    """
    jobs, callbacks = queues_of(run)
    app = Celery("celery_flows_demo", loader="app", set_as_current=False)
    app.conf.update(
        task_default_queue=jobs,
        # Callbacks don't stand in line behind all the jobs.
        task_queues=[Queue(jobs), Queue(callbacks)],
        task_ignore_result=True,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        # The in-process broker is asked this often, in seconds.
        broker_transport_options={"polling_interval": 0.01},
    )
    Flows(app, callback_queue=callbacks, **settings)
    for task in (measure, tell_complete, tell_failure, write_manifest):
        app.task(name=f"demo.{task.__name__}", shared=False)(task)
    return app


def measure(top: str, path: str, run: str, *, must_fail: bool = False) -> None:
    """Measure a file, and leave what was found in the run's folder, under the job's id: again is no harm."""
    if must_fail:
        raise ValueError(f"{path} fails because --fail asks for it")
    job = current_job()
    assert job is not None
    found = measure_file(top, path)
    Path(run, MEASURES, f"{job.id}.json").write_text(json.dumps(vars(found)), "ascii")


def tell_complete(batch_id: str) -> None:
    """The callback for `complete`."""
    _tell("complete", batch_id, f"batch {batch_id} is complete")


def tell_failure(batch_id: str) -> None:
    """The callback for `failure`, which comes while other jobs still run."""
    _tell("failure", batch_id, f"batch {batch_id} has failed, the other jobs go on")


def write_manifest(batch_id: str, run: str) -> None:
    """The callback for `settled`: add up what the jobs found."""
    batch = Batch.get(batch_id)
    files = sorted(Path(run, MEASURES).iterdir())
    measures = [Measure(**json.loads(file.read_text("ascii"))) for file in files]
    manifest = {
        "batch": batch_id,
        "status": batch.status,
        **add_up(measures).to_dict(),
        "failed": _failed(batch),
        "entries": [vars(measure) for measure in sorted(measures, key=lambda measure: measure.path)],
    }
    written = Path(run, f"{MANIFEST}.{time.time_ns()}")
    written.write_text(json.dumps(manifest, indent=1), "ascii")
    written.rename(Path(run, MANIFEST))
    summary = {key: value for key, value in manifest.items() if key != "entries"}
    _tell("settled", batch_id, json.dumps(summary), **summary)


def _tell(event: str, batch_id: str, text: str, **facts: Any) -> None:
    is_json = JSON_VARIABLE in os.environ
    say(
        as_json({"callback": event, "batch": batch_id, **facts})
        if is_json
        else f"callback {event + ':':<9} {text}"
    )


def _failed(root: Batch) -> list[dict[str, Any]]:
    # All batches of a run carry its tag.
    batches = Batch.list(tag=root.tags[0], state="failed", limit=100_000)
    jobs = [job for batch in batches for job in batch.failed_jobs if job.kind == "task"]
    return [{"path": job.args[1], "error": job.error_message} for job in jobs]
