"""Batches and flows for Celery: rows in your database, callbacks exactly once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At run time a name is imported when it is asked for: Celery imports this package for every one of its
# commands, also for projects that only share an environment with one that uses it.
if TYPE_CHECKING:
    from celery_flows.batch import Batch
    from celery_flows.batching import BatchingTask
    from celery_flows.errors import (
        BatchCancelled,
        BatchExists,
        BatchFinished,
        BatchNotFound,
        BatchUnfinished,
        EnrolmentAbandoned,
        FlowsError,
        NotJson,
        PlanInvalid,
        UnknownEvent,
        UnknownTask,
        WorkerLost,
    )
    from celery_flows.flows import Flows
    from celery_flows.job import Job, current_job
    from celery_flows.messaging.repairs import flows_repaired
    from celery_flows.orchestration import Orchestration
    from celery_flows.progress import Progress
    from celery_flows.sequence import Sequence, step
    from celery_flows.store.schema import include_name
    from celery_flows.template import Template
    from celery_flows.typed import TypedTask, typed_task
    from celery_flows.workflow import Workflow

__all__ = [
    "Batch",
    "BatchCancelled",
    "BatchExists",
    "BatchFinished",
    "BatchNotFound",
    "BatchUnfinished",
    "BatchingTask",
    "EnrolmentAbandoned",
    "Flows",
    "FlowsError",
    "Job",
    "NotJson",
    "Orchestration",
    "PlanInvalid",
    "Progress",
    "Sequence",
    "Template",
    "TypedTask",
    "UnknownEvent",
    "UnknownTask",
    "WorkerLost",
    "Workflow",
    "current_job",
    "flows_repaired",
    "include_name",
    "step",
    "typed_task",
]

_ELSEWHERE = {
    "Batch": "batch",
    "BatchingTask": "batching",
    "Flows": "flows",
    "Job": "job",
    "Orchestration": "orchestration",
    "Progress": "progress",
    "Sequence": "sequence",
    "Template": "template",
    "TypedTask": "typed",
    "Workflow": "workflow",
    "current_job": "job",
    "flows_repaired": "messaging.repairs",
    "include_name": "store.schema",
    "step": "sequence",
    "typed_task": "typed",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
