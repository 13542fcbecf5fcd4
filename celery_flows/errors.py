"""Everything that celery-flows raises, under one root."""

from __future__ import annotations

import inspect
from typing import Any


class FlowsError(Exception):
    """Something went wrong in celery-flows."""

    # Not KeyError's, which quotes what it says.
    __str__ = Exception.__str__

    # The docstring of each class is its message; facts fill the braces and stay readable
    # as attributes. Keyword-only facts survive pickling, as an error may cross processes.
    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)
        template = inspect.cleandoc(type(self).__doc__ or type(self).__name__)
        super().__init__(" ".join(template.split("\n")).format(**facts))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(error: type[FlowsError], facts: dict[str, Any]) -> FlowsError:
    return error(**facts)


class ConfigurationError(FlowsError):
    """{problem}"""

    problem: str


class UnknownSetting(FlowsError):
    """Unknown setting {name!r}. Did you mean {nearest}? Settings are: {known}."""

    name: str
    nearest: str
    known: str


class InvalidSetting(FlowsError):
    """Setting {name!r} is {value!r}, but must be {allowed}."""

    name: str
    value: object
    allowed: str


class NotCelery(FlowsError):
    """Flows needs a Celery app, but got {given}. Pass the Celery instance itself:
    Flows(celery_app). With Flask that is app.extensions["celery"]."""

    given: str


class NoFlows(FlowsError):
    """No Celery app with Flows was found here. Pass app= (Batch.create(app=app)), call this
    inside a task of the app, make the app current (app.set_current()), or install Flows on
    exactly one app of this process: Flows(app, database_url=...)."""


class DriverMissing(FlowsError):
    """The database's driver can't be loaded: {problem}. Install it, or `pip install "celery-flows[{extra}]"`
    and write the database URL as {backend}://..."""

    problem: str
    extra: str
    backend: str


class SchemaMissing(FlowsError):
    """The database has no celery-flows tables yet. Make them with
    `celery -A your_project flows upgrade`, or without an app with
    `celery-flows --database-url URL upgrade`; in a Django project with `python manage.py migrate`."""


class SchemaOutdated(FlowsError):
    """The database's celery-flows tables are at revision {found}, but this version of the package
    needs {expected}. Run `celery -A your_project flows upgrade`, or without an app
    `celery-flows --database-url URL upgrade`."""

    found: str
    expected: str


class UnknownRevision(FlowsError):
    """The tables can't be brought to revision {revision!r}: {problem} The latest revision that this
    version of the package knows is {head}, the first is base."""

    revision: str
    problem: str
    head: str


class BatchNotFound(FlowsError):
    """There is no batch {batch_id!r}: the id is wrong, or the batch was pruned."""

    batch_id: object


class BatchAmbiguous(FlowsError):
    """Several batches have an id that begins with {prefix!r}: {candidates}. Write more of it."""

    prefix: str
    candidates: str


class JobGiven(FlowsError):
    """{job_id!r} is the id of a job, not of a batch. Its batch is {batch_id}."""

    job_id: str
    batch_id: str


class BatchFinished(FlowsError):
    """Batch {batch_id} is finished ({state}), so nothing can be added to it.
    Make a new one with Batch.create()."""

    batch_id: str
    state: str


class BatchCancelled(FlowsError):
    """Batch {batch_id} is cancelled, so nothing can be added to it."""

    batch_id: str


class BatchUnfinished(FlowsError):
    """Batch {batch_id} is {state} and has jobs left to run, so it can't be retried yet. Wait until it is
    finished (batch.wait()), or cancel what is left (batch.cancel())."""

    batch_id: str
    state: str


class UnknownEvent(FlowsError):
    """There is no event {event!r}. Events are "complete" (or "success"), "failure" and "settled"."""

    event: object


class UnknownTask(FlowsError):
    """Task {task!r} is not registered with this app, so no worker could run it.
    Check its name, and that the module that defines it is imported."""

    task: str


class NotJson(FlowsError):
    """{argument} of {task} can't be stored as JSON: {problem}
    Pass an id or plain data instead."""

    task: str
    argument: str
    problem: str


class TooLong(FlowsError):
    """{what} is {length} characters long, and may have {limit} at most: {start}..."""

    what: str
    length: int
    limit: int
    start: str


class DuplicateJob(FlowsError):
    """A task id of this block is taken by another job: {job_id}. Task ids must be unique.
    Nothing of this block was enrolled."""

    job_id: str


class CanvasNotSupported(FlowsError):
    """A {shape} can't be a callback of a batch: {task} would carry later tasks in its message, where nothing
    could see them. Let the callback be one task, and start the rest in it:
    Workflow.from_canvas(...).start()."""

    shape: str
    task: str


class ResultNotReady(FlowsError):
    """Job {job_id} has not been published: its block is still open, was left by an error, or waits for a
    transaction to be committed. Waiting for its result here would never end: read it after that."""

    job_id: str


class BlockMisuse(FlowsError):
    """{problem}"""

    problem: str


class JoinRefused(FlowsError):
    """Batch {batch_id} is running already, and the transaction you joined is {isolation}: such a
    transaction can't see the batch finish. Use READ COMMITTED, or open the block without connection=."""

    batch_id: str
    isolation: str


class EnrolmentAbandoned(FlowsError):
    """A streaming block of batch {batch_id} ended before it was complete: {problem}
    What it had enrolled by then runs; the rest was not enrolled."""

    batch_id: str
    problem: str


class WorkerLost(FlowsError):
    """The worker that ran job {job_id} is gone ({reason}); that was loss number {losses}. Whether it had any
    effect is not known. To run lost jobs again set on_loss="retry", for jobs that bear it."""

    job_id: str
    losses: int
    reason: str


class WaitTimeout(FlowsError, TimeoutError):
    """Batch {batch_id} was not finished after {timeout:g} seconds: {progress}."""

    batch_id: str
    timeout: float
    progress: str


class BatchExists(FlowsError):
    """Batch {batch_id} has the key {key!r} and is unfinished, and only one at a time may. Wait for it, or
    cancel it: Batch.get({batch_id!r}).cancel(). If its first block raised, it stays pending, and waiting would
    not end: cancel it, or open its block again (batch.jobs())."""

    key: str
    batch_id: str


class PlanInvalid(FlowsError):
    """This can't be planned: {problem}."""

    problem: str


class NotStorable(FlowsError):
    """{what} can't be stored as JSON: {problem} Use an id or plain data instead."""

    what: str
    problem: str


class ResultTooLarge(FlowsError):
    """The result of {task} is {size} bytes long as JSON, and jobs that wait for it can be given {limit} at most
    (the setting result_max_bytes). Store it elsewhere, and return where."""

    task: str
    size: int
    limit: int


class NoResult(FlowsError, KeyError):
    """There is no result of a job named {name!r}: {problem}."""

    name: str
    problem: str


class JobTaken(FlowsError):
    """Job {job_id} was given up or taken by another worker, so it can't add to its flow any more."""

    job_id: str


class FinalError(FlowsError):
    """A job fails by this at once: trying again would bring nothing else."""


class MemoryTooLarge(FlowsError):
    """{what} would be {size} bytes long as JSON, and may have {limit} (the setting {setting}). Store large things
    elsewhere, and remember where they are."""

    what: str
    size: int
    limit: int
    setting: str


class KeyIsMerged(FlowsError):
    """The key {key!r} of a run's memory is merged from what each job gives, so it can't be set. Give what this job
    adds to it: current_job().memory.write(...)."""

    key: str


class MergeFailed(FlowsError):
    """What jobs gave under {key!r} can't be merged: {problem}."""

    key: str
    problem: str


class MemoryExpired(FlowsError):
    """The memory of run {run_id} is gone: it expired, or was deleted there. Give it a longer ttl, or prolong it in
    long jobs: current_job().memory.extend_ttl(seconds)."""

    run_id: str


class MemoryUnavailable(FlowsError):
    """The memory of run {run_id} could not be {done} ({problem}). Once it can be reached, run the job again:
    batch.retry()."""

    run_id: str
    done: str
    problem: str


class NotRemembered(FinalError):
    """{task} has remember={remember!r}, so it must return a mapping of texts to what JSON can hold, or None; it
    returned {given}."""

    task: str
    remember: object
    given: str


class NotTyped(FlowsError):
    """{task} can't be a typed task: {problem}."""

    task: str
    problem: str


class BadInput(FinalError):
    """{task} can't take what it was called with: {problem}."""

    task: str
    problem: str


class BadOutput(FinalError):
    """{task} returned what it must not: {problem}."""

    task: str
    problem: str


class UnknownTemplate(FlowsError):
    """There is no template named {name!r}{nearest}. Import the module that registers it."""

    name: str
    nearest: str


class TemplateExists(FlowsError):
    """There is a template named {name!r} already, made by {builder}. To put another in its place, register that
    with replace=True."""

    name: str
    builder: str


class BadParams(FlowsError):
    """Template {name!r} can't be run with that: {problem}. Nothing was written."""

    name: str
    problem: str


class PlanTooLarge(FlowsError):
    """{jobs} jobs can't be drawn: too few of them are alike, so that {boxes} boxes would be left, and {most} are
    as many as one could look at. A tree takes any number: print the preview, or say graph --format tree."""

    jobs: int
    boxes: int
    most: int


class GraphTooLarge(FlowsError):
    """Batch {batch_id} has more than {most} jobs, which is too many for a graph. How far it has come, and what
    failed, is in its progress and its lists."""

    batch_id: str
    most: int


class NeverDrained(FlowsError):
    """{number} messages were run by drain(), and more wait. A task that is always retried, or that calls itself,
    never comes to an end: run a part with drain(at_most=...). The last ones: {last}"""

    number: int
    last: str
