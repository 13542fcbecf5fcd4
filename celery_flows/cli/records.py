"""Batches and jobs as commands show them: records, and what people read of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from celery_flows.cli.output import Column, Output, Record
from celery_flows.cli.words import age_of
from celery_flows.progress import Progress
from celery_flows.queries.batches import BatchRecord
from celery_flows.queries.record import JobRecord
from celery_flows.shown.words import short


def of_batch(batch: BatchRecord, progress: Progress) -> dict[str, Any]:
    """All that is known of a batch."""
    values = asdict(batch)
    values["key"] = values.pop("batch_key")
    return {**values, "progress": progress.to_dict()}


def of_job(job: JobRecord) -> dict[str, Any]:
    """All that is known of a job or a callback."""
    return asdict(job)


def state_of(batch: Record) -> str:
    """The state of a batch, and whether jobs are left all the same."""
    is_left = batch["completed_at"] is not None and batch["settled_at"] is None
    return f"{batch['state']} (unfinished)" if is_left else str(batch["state"])


def title_of(batch: Record) -> str | None:
    """What people should read of a batch: its description, or the class of a flow."""
    # What a canvas is run by is a class of ours, which says nothing to them.
    title: str | None = batch["description"] or (None if batch["kind"] == "canvas" else batch["flow"])
    return title


def done_of(batch: Record) -> str:
    """How many jobs of a batch have ended, of how many."""
    progress = batch["progress"]
    return f"{progress['total'] - progress['pending']:,}/{progress['total']:,}"


def batch_columns(out: Output) -> list[Column]:
    """The columns of a list of batches."""
    return [
        Column("ID", lambda batch: short(batch["id"]) if out.is_terminal else batch["id"]),
        Column("STATE", state_of, is_state=True),
        Column("DONE", done_of, is_number=True),
        Column("FAILED", lambda batch: f"{batch['progress']['failed']:,}", is_number=True),
        Column("AGE", lambda batch: age_of(batch["created_at"]), is_number=True),
        Column("KIND", lambda batch: batch["kind"], may_go=True),
        Column("DESCRIPTION", title_of, gives_way=True),
        Column("TAGS", lambda batch: ", ".join(batch["tags"]), gives_way=True, is_optional=True, may_go=True),
    ]


def job_columns() -> list[Column]:
    """The columns of a list of jobs."""
    return [
        Column("ID", lambda job: job["id"]),
        Column("STATE", lambda job: job["state"], is_state=True),
        Column("TASK", task_of, gives_way=True),
        Column("TRIES", lambda job: job["attempts"], is_number=True),
        Column("STARTED", lambda job: age_of(job["started_at"]), is_number=True, may_go=True),
        Column("ENDED", lambda job: age_of(job["ended_at"]), is_number=True, may_go=True),
        Column("ERROR", error_of, gives_way=True, is_optional=True),
    ]


def task_of(job: Record) -> str:
    """What a job is called, and what it runs."""
    what = job["task"] or {"batch": "child batch", "block": "streaming block", "plan": "planning"}.get(job["kind"])
    return f"{job['name']}: {what}" if job.get("name") else str(what)


def error_of(job: Record) -> str | None:
    """What a job failed by."""
    parts = [one for one in (job["error_class"], job["error_message"]) if one]
    return ": ".join(parts) or None
