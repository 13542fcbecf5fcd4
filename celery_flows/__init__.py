"""Batches and flows for Celery: rows in your database, callbacks exactly once."""

from celery_flows.batch import Batch
from celery_flows.errors import (
    BatchFinished,
    BatchNotFound,
    EnrolmentAbandoned,
    FlowsError,
    NotJson,
    UnknownEvent,
    UnknownTask,
)
from celery_flows.flows import Flows
from celery_flows.job import Job, current_job
from celery_flows.progress import Progress

__all__ = [
    "Batch",
    "BatchFinished",
    "BatchNotFound",
    "EnrolmentAbandoned",
    "Flows",
    "FlowsError",
    "Job",
    "NotJson",
    "Progress",
    "UnknownEvent",
    "UnknownTask",
    "current_job",
]
