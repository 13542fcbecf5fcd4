"""What the jobs of a plan are called where plans are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from celery_flows.plan import Node
from celery_flows.shown.words import printable
from celery_flows.states import JobState, Kind

#: Where each job of a plan stands, where that is known.
States = Mapping[str, JobState]

#: The order in which states are told: what needs a person first, what needs nobody last.
URGENCY = (
    JobState.FAILED,
    JobState.RUNNING,
    JobState.RETRYING,
    JobState.CANCELLED,
    JobState.SKIPPED,
    JobState.QUEUED,
    JobState.READY,
    JobState.WAITING,
    JobState.COMPLETE,
)


def task_of(node: Node) -> str:
    """What a job calls: a task, or a flow with its kind."""
    task = node.task or ("then" if node.kind is Kind.JOIN else node.kind)
    return _plain(f"{task} ({node.call.kind})" if node.call is not None else task)


def name_of(node: Node) -> str | None:
    """What others know a job by, where that says more than its task."""
    return None if node.name is None or node.name == node.task else _plain(node.name)


def label_of(node: Node) -> str:
    """Both in one line."""
    name = name_of(node)
    return task_of(node) if name is None else f"{name}: {task_of(node)}"


def _plain(text: str) -> str:
    """A text in one line, whatever a user wrote."""
    return printable(text.replace("\n", " ").replace("\t", " "))


def urgency(state: JobState | None) -> int:
    """How far in front a state is told."""
    return len(URGENCY) if state is None else URGENCY.index(state)


def numbers_of(states: Iterable[JobState]) -> dict[JobState, int]:
    """How many jobs are in each state, in the order in which that is told."""
    found = Counter(states)
    return {state: found[state] for state in sorted(found, key=urgency)}
