"""Installing celery-flows on a Celery app."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from celery import Celery

from celery_flows.errors import ConfigurationError, NotCelery
from celery_flows.job import Job, current_job
from celery_flows.messaging import capture, signals, tasks
from celery_flows.messaging.runtime import Runtime, attached_to, describe
from celery_flows.messaging.task import FlowsAttributes, front_all
from celery_flows.messaging.worker import DecodeErrorStep, UpkeepStep
from celery_flows.settings import PREFIX, check
from celery_flows.transitions.prune import FATES, fates_of

#: What a spawned child calls with its copy of the app: only the configuration and this name get there.
_FIXUP: Final = "celery_flows.flows:fixup"


class Flows:
    """Adds batches and flows to a Celery app.

    Either at once, `Flows(app, database_url=...)`, or when you choose, `Flows().init_app(app, ...)`.
    Nothing is read, opened or configured here: settings are read at first use, so they may stand in the
    app's configuration as well, as `flows_database_url` and so on.
    """

    def __init__(self, app: Any = None, **settings: Any) -> None:
        """Install on an app, or remember settings for `init_app`.

        Args:
            app: the Celery app.
            settings: any setting, by its name without the prefix `flows_`.

        Raises:
            NotCelery: `app` is something else.
            UnknownSetting: there is no such setting.
            InvalidSetting: a value has the wrong type or is out of range.
        """
        check(settings)
        self._settings = settings
        self._runtime: Runtime | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any, **settings: Any) -> Flows:
        """Install on an app. Doing it again changes settings, nothing else.

        Raises:
            NotCelery: `app` is something else, such as a Flask app.
            UnknownSetting: there is no such setting.
            InvalidSetting: a value has the wrong type or is out of range.
        """
        if not isinstance(app, Celery):
            raise NotCelery(given=describe(app))
        check(settings)
        for name, value in {**self._settings, **settings}.items():
            app.conf[PREFIX + name] = value
        self._runtime = install(app)
        app.fixups = {*app.fixups, _FIXUP}
        return self

    def prune(self, older_than: timedelta | float, states: Iterable[str] = FATES) -> int:
        """Forget batches that finished long ago, with their jobs and callbacks.

        Never what is unfinished or has callbacks still to run.

        Args:
            older_than: how long ago, as a timedelta or in seconds.
            states: only those that ended so: "complete", "failed" or "cancelled". What is inside a batch goes
                with it.

        Returns:
            How many batches were deleted.

        Raises:
            InvalidSetting: a state is none in which a batch ends.
        """
        age = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
        return self._installed().prune(age, fates_of(states))

    def _installed(self) -> Runtime:
        if self._runtime is None:
            raise ConfigurationError(problem="This Flows is on no app yet: call init_app(app) first.")
        return self._runtime

    @property
    def app(self) -> Celery:
        """The app that this is installed on."""
        return self._installed().app


def fixup(app: Celery) -> Runtime:
    """Install on the copy of an app in a spawned process; Celery calls it by its name."""
    return install(app)


def install(app: Celery) -> Runtime:
    """Wire the layers to an app, once."""
    runtime = attached_to(app)
    if runtime is not None:
        return runtime
    runtime = capture.install(app)
    front_all(app)
    tasks.register(app)
    signals.connect()
    app.steps["worker"].add(UpkeepStep)
    app.steps["consumer"].add(DecodeErrorStep)
    return runtime


class _JobAttribute:
    """`self.job` in a bound task: the job that it is, or None outside a batch. A task may set its own."""

    def __get__(self, task: Any, owner: type) -> Job | None:
        return current_job()


# Here, as a job's batch is a noun of the layer above the task's.
FlowsAttributes.job = _JobAttribute()  # type: ignore[attr-defined] # declared here
