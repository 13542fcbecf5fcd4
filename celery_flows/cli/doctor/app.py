"""Checks that need the app: its settings, its broker, beat, who consumes which queue, and its tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from celery_flows.cli.doctor.finding import Finding, ok, warning, wrong
from celery_flows.cli.words import counted
from celery_flows.messaging.runtime import Runtime
from celery_flows.messaging.tasks import RECONCILE
from celery_flows.queries.health import Due
from celery_flows.settings import Settings

#: Seconds that the broker is given to connect, and workers to answer.
_PATIENCE: Final = 3.0
_ANSWER: Final = 1.0

#: Tasks that are named.
_NAMED: Final = 10


def settings(app: Any, found: Settings) -> Iterator[Finding]:
    """Whether settings go together, ours and Celery's."""
    yield from [*_disagreements(app, found)] or [ok("settings", "They go together.")]


def _disagreements(app: Any, found: Settings) -> Iterator[Finding]:
    sweep, lease = found.sweep_interval, found.lease_timeout
    if sweep > lease:
        fact = f"flows_sweep_interval ({sweep:g} s) is longer than flows_lease_timeout ({lease:g} s)."
        yield warning("settings", fact, "A dead worker's jobs then wait for the sweep: make it shorter.")
    if app.conf.task_always_eager:
        fact = "task_always_eager is set: jobs run where their block ends, and no worker sees them."
        yield warning("settings", fact, "Good for tests; elsewhere take it out.")
    options = app.conf.broker_transport_options or {}
    visibility = options.get("visibility_timeout")
    if visibility is not None and visibility < lease:
        fact = (
            f"The broker's visibility_timeout ({visibility:g} s) is shorter than flows_lease_timeout, {lease:g} s."
        )
        yield warning("settings", fact, "Each job that runs longer is delivered once more: make it an hour.")
    if found.retention is not None and found.retention < found.requeue_after:
        fact = f"flows_retention ({found.retention:g} s) is shorter than flows_requeue_after."
        yield warning("settings", fact, "Batches are gone before anybody can look at them: keep them for days.")


def broker(app: Any) -> Finding:
    """Whether messages can be sent."""
    with app.connection_for_write() as connection:
        where = connection.as_uri()
        try:
            connection.ensure_connection(max_retries=1, timeout=_PATIENCE)
        except Exception as error:
            remedy = "Start it, or mend broker_url. Meanwhile jobs are committed, and published once it is back."
            return wrong("broker", f"{where} can't be reached: {_words(error)}", remedy)
        if connection.transport.driver_type == "memory":
            return warning("broker", f"{where} is this process's own memory.", "Good for tests: set broker_url.")
    return ok("broker", f"{where} answers.")


def _words(error: Exception) -> str:
    return f"{' '.join(str(error).split()).rstrip('.') or type(error).__name__}."


def beat(app: Any) -> Finding:
    """Whether beat calls the sweep: workers sweep without it."""
    entries = app.conf.beat_schedule or {}
    mine = [entry for entry in entries.values() if isinstance(entry, Mapping) and entry.get("task") == RECONCILE]
    if mine:
        return ok("beat", f"{RECONCILE} is in beat_schedule (every {mine[0].get('schedule')}).")
    return ok("beat", f"{RECONCILE} is not in beat_schedule, and need not be: workers sweep.")


def consumers(app: Any, waiting: Mapping[str | None, Due], leases: int | None) -> Iterator[Finding]:
    """Whether somebody consumes the queues in which jobs wait, and whether who answers holds a lease here.

    Args:
        waiting: by queue, the jobs that wait in it.
        leases: how many workers hold one; None: that is not known.
    """
    answers = app.control.inspect(timeout=_ANSWER).active_queues() or {}
    consumed = {queue["name"] for queues in answers.values() for queue in queues}
    number = counted(len(answers), "worker")
    if not answers:
        remedy = "Start workers, or see that they are on the same broker: celery -A your_project status"
        make = wrong if waiting else warning
        yield make("consumers", "No worker answers over the broker.", remedy)
    elif leases == 0:
        fact = f"Over the broker {number} answered, and none holds a lease here."
        yield wrong("consumers", fact, "They run without Flows, or with another database: see flows_database_url.")
    else:
        yield ok("consumers", f"Over the broker {number} answered, for queues {', '.join(sorted(consumed)[:5])}.")
    for queue, due in waiting.items() if answers else ():
        if queue is not None and queue not in consumed:
            fact = f"{counted(due.number, 'job')} in queue {queue!r}, which nobody who answered consumes."
            yield wrong("consumers", fact, f"Start a worker for it: celery -A your_project worker -Q {queue}")


def tasks(app: Any, wanted: Mapping[str, int]) -> Finding:
    """Whether what unfinished work calls is registered."""
    if not wanted:
        return ok("tasks", "No unfinished work calls one.")
    missing = {name: jobs for name, jobs in wanted.items() if name not in app.tasks}
    if not missing:
        return ok("tasks", f"What unfinished work calls is registered: {counted(len(wanted), 'task')}.")
    names = [f"{name} ({counted(jobs, 'job')})" for name, jobs in [*missing.items()][:_NAMED]]
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    remedy = (
        "Their jobs fail where a worker meets them. Import the modules that have them (include, imports, "
        "autodiscover_tasks), register the old name again, or cancel the batches."
    )
    return wrong("tasks", f"Not registered here: {', '.join(names)}{more}.", remedy)


def registered(runtime: Runtime) -> Any:
    """The app, with all tasks that a worker would have."""
    runtime.app.loader.import_default_modules()
    runtime.app.finalize()
    return runtime.app
