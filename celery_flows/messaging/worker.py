"""What runs in a worker beside the tasks: a look at the schema, the sweep, the outcomes thread."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from celery import bootsteps

from celery_flows.errors import FlowsError
from celery_flows.messaging.audit import Audit
from celery_flows.messaging.lease import Lease
from celery_flows.messaging.outcomes import reporter
from celery_flows.messaging.reserved import reserved_jobs
from celery_flows.messaging.runtime import attached_to
from celery_flows.messaging.signals import on_decode_error
from celery_flows.messaging.sweep import sweep_in_turn
from celery_flows.store.database import is_unavailable
from celery_flows.transitions.lease import retire

logger = logging.getLogger(__name__)


class UpkeepStep(bootsteps.StartStopStep):
    """Checks the schema, takes a lease, and sweeps from a thread while the worker lives."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parent: Any) -> None:
        """Refuse to start without the right schema; then start the thread."""
        runtime = attached_to(parent.app)
        if runtime is None:
            return
        runtime.is_worker = True
        try:
            _ = runtime.database.engine
        except FlowsError as error:
            logger.critical("%s", error)
            # Not WorkerTerminate, of which Celery forgets the exit code.
            raise SystemExit(os.EX_CONFIG) from error
        except Exception as error:
            if not is_unavailable(error):
                raise
            logger.error("The database can't be reached (%s). Jobs wait until it can.", error)
        # The pool forks after this: children must not inherit open connections.
        runtime.database.close()
        runtime.lease = Lease(runtime.settings, runtime.new_database(check=False), reserved_jobs)
        runtime.lease.start()
        _after_stop(parent)
        self._thread = threading.Thread(
            target=self._sweep, args=(runtime, parent), name="celery-flows-sweep", daemon=True
        )
        self._thread.start()

    def _sweep(self, runtime: Any, parent: Any) -> None:
        audit = Audit(lambda: parent.pool.num_processes)
        while not self._stopping.wait(runtime.settings.sweep_interval):
            try:
                audit.look(runtime)
                sweep_in_turn(runtime)
            except Exception as error:
                logger.error(
                    "The sweep failed (%s); the next one is due in %g s.", error, runtime.settings.sweep_interval
                )

    def stop(self, parent: Any) -> None:
        """Let the sweep end."""
        self._stopping.set()

    terminate = stop


def _after_stop(worker: Any) -> None:
    # Not the step's own stop: steps stop in an order of Celery's choice, and the pool must have stopped.
    # Not the signal worker_shutdown: a cold shutdown does not send it.
    celerys_own = worker.blueprint.on_stopped

    def stopped() -> None:
        try:
            celerys_own()
        finally:
            hand_back(worker.app)

    worker.blueprint.on_stopped = stopped


def hand_back(app: Any) -> None:
    """The pool has stopped: write the outcomes still to be written, and hand back what is left of our jobs."""
    runtime = attached_to(app)
    if runtime is None or runtime.lease is None:
        return
    lease, runtime.lease, runtime.is_worker = runtime.lease, None, False
    lease.stop()
    reporter.drain()
    try:
        left = retire(runtime.database, lease.id, runtime.loss_policy)
        runtime.publisher.publish(left.ready)
    except Exception as error:
        logger.error("This worker's lease was not ended (%s); it runs out by itself.", error)


class DecodeErrorStep(bootsteps.Step):
    """Sees messages whose body can't be read, for which Celery has no signal."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        celerys_own = parent.on_decode_error

        def seen(message: Any, error: BaseException) -> None:
            celerys_own(message, error)
            on_decode_error(parent.app, message, error)

        parent.on_decode_error = seen
