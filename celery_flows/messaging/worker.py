"""What runs in a worker beside the tasks: a look at the schema, the sweep, the outcomes thread."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerTerminate

from celery_flows.errors import FlowsError
from celery_flows.messaging.outcomes import reporter
from celery_flows.messaging.runtime import attached_to
from celery_flows.messaging.signals import on_decode_error
from celery_flows.messaging.sweep import sweep_in_turn
from celery_flows.store.database import is_unavailable

logger = logging.getLogger(__name__)


class UpkeepStep(bootsteps.StartStopStep):
    """Checks the schema before the pool starts, and sweeps from a thread while the worker lives."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """Refuse to start without the right schema; then start the thread."""
        runtime = attached_to(parent.app)
        if runtime is None:
            return
        try:
            _ = runtime.database.engine
        except FlowsError as error:
            logger.critical("%s", error)
            raise WorkerTerminate(os.EX_CONFIG) from error
        except Exception as error:
            if not is_unavailable(error):
                raise
            logger.error("The database can't be reached (%s). Jobs wait until it can.", error)
        # The pool forks after this: children must not inherit open connections.
        runtime.database.close()
        self._thread = threading.Thread(
            target=self._sweep, args=(runtime,), name="celery-flows-sweep", daemon=True
        )
        self._thread.start()

    def _sweep(self, runtime: Any) -> None:
        while not self._stopping.wait(runtime.settings.sweep_interval):
            try:
                sweep_in_turn(runtime)
            except Exception as error:
                logger.error(
                    "The sweep failed (%s); the next one is due in %g s.", error, runtime.settings.sweep_interval
                )

    def stop(self, parent: Any) -> None:
        """Write the outcomes still to be written, and let the sweep end."""
        self._stopping.set()
        reporter.drain()

    terminate = stop


class DecodeErrorStep(bootsteps.Step):
    """Sees messages whose body can't be read, for which Celery has no signal."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        celerys_own = parent.on_decode_error

        def seen(message: Any, error: BaseException) -> None:
            celerys_own(message, error)
            on_decode_error(parent.app, message, error)

        parent.on_decode_error = seen
