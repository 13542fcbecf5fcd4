"""The front door: the names that users are promised."""

from __future__ import annotations

import subprocess
import sys

import celery_flows

PROMISED = {
    "include_name",
    "step",
    "Template",
    "TypedTask",
    "typed_task",
    "BatchExists",
    "BatchingTask",
    "Orchestration",
    "PlanInvalid",
    "Sequence",
    "Workflow",
    "flows_repaired",
    "WorkerLost",
    "BatchUnfinished",
    "BatchCancelled",
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
}


def test_the_promised_names_and_no_others() -> None:
    """A name that slips in or out of the package is a change of what users are promised."""
    assert set(celery_flows.__all__) == PROMISED
    assert list(celery_flows.__all__) == sorted(PROMISED)
    assert all(hasattr(celery_flows, name) for name in PROMISED)


def test_every_name_says_what_it_is() -> None:
    """Each promised name has a docstring of its own."""
    assert all(getattr(celery_flows, name).__doc__ for name in PROMISED)


def test_nothing_else_looks_public() -> None:
    """What else the package's namespace holds are its own modules."""
    others = {name for name in vars(celery_flows) if not name.startswith("_")} - PROMISED
    others -= {"TYPE_CHECKING", "Any", "import_module"}
    assert all(type(getattr(celery_flows, name)).__name__ == "module" for name in others)


def test_the_front_door_imports_nothing_by_itself() -> None:
    """Celery imports the package for each of its commands: that must not cost what Celery and SQLAlchemy cost."""
    script = "import sys, celery_flows.cli; print({'celery', 'sqlalchemy', 'kombu'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "set()"
