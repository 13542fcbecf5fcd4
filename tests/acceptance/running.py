"""Real workers for tests: started, waited for, stopped or killed, as processes of their own."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from acceptance.app import SETTINGS, make_app
from celery import Celery
from kombu import Exchange, Message, Queue

from celery_flows import Batch
from celery_flows.messaging.runtime import Runtime, runtime_of
from celery_flows.store.tables import Tables

T = TypeVar("T")

#: Seconds within which what is waited for must come about, on a busy machine.
PATIENCE: Final = 60.0

TESTS: Final = Path(__file__).parents[1]

EVENTS: Final = ("complete", "failure", "settled")

_numbers = count(1)


def wait_for(look: Callable[[], T], explain: Callable[[], object] = str, patience: float = PATIENCE) -> T:
    """Look again and again until there is something to see, and return it."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline, f"it did not come about: {explain()}"
        time.sleep(0.02)
    return found


class Project:
    """An app on one broker and one database, its workers, and what its tasks did."""

    def __init__(self, scratch: Path, broker_url: str, database_url: str, **celery: Any) -> None:
        self._scratch = scratch
        self._seen = scratch / f"seen-{next(_numbers)}"
        name = f"acceptance-{os.getpid()}-{next(_numbers)}"
        self.settings: dict[str, Any] = {
            "celery": {
                "broker_url": broker_url,
                "task_default_queue": name,
                "broker_connection_retry_on_startup": True,
                # kombu keeps one pool for all that look the same: closing it must close no other test's.
                "broker_transport_options": {"client_properties": {"test": name}},
                "worker_send_task_events": False,
                **celery,
            },
            # Without the sweep a test sees what the protocol itself does.
            "flows": {"database_url": database_url, "sweep_interval": 3600.0},
        }
        self.app: Celery = make_app(self.settings)

    @property
    def runtime(self) -> Runtime:
        return runtime_of(self.app)

    def batch(self, **options: Any) -> Batch:
        """Make a batch with a callback for every event."""
        batch = Batch.create(app=self.app, **options)
        for event in EVENTS:
            batch.on(event, self.app.signature("jobs.announce", (event,)))
        return batch

    def __getattr__(self, name: str) -> Any:
        """A task of the app."""
        return self.app.tasks[f"jobs.{name}"]

    def enroll(self, task: str, *args: Any, **options: Any) -> tuple[Batch, str]:
        """Make a batch of one call; return it and the job's id. `options` are those of the publishing."""
        batch = self.batch()
        with batch.jobs():
            result = self.app.signature(task if "." in task else f"jobs.{task}", args).apply_async(**options)
        return batch, result.id

    def run(self, task: str, *args: Any, **options: Any) -> Any:
        """Run a batch of one call to its end, see that its callbacks fit, and return the job's row."""
        return self.ended(*self.enroll(task, *args, **options))

    def ended(self, batch: Batch, job_id: str) -> Any:
        """Wait for a batch of one job, see that its callbacks fit the job's state, and return the job's row."""
        fate = batch.wait(PATIENCE)
        row = self.row(job_id)
        is_good = row.state == "complete"
        assert (fate, self.announced(batch)) == (
            ("complete", ["complete", "settled"]) if is_good else ("failed", ["failure", "settled"])
        )
        return row

    def take_message(self, queue: str) -> Message:
        """Take a message out of a queue that no worker reads."""
        with self.app.connection_for_read() as connection, connection.channel() as channel:
            bound = Queue(queue, Exchange(queue), queue).bind(channel)
            message: Message = wait_for(bound.get)
            message.ack()
            return message

    def send_message(self, message: Message, **changes: Any) -> None:
        """Publish a message that was taken, as it was but for some changes, to the queue of the workers."""
        whole = {
            "body": message.body,
            "headers": message.headers,
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "correlation_id": message.properties.get("correlation_id"),
        }
        queue = self.app.conf.task_default_queue
        with self.app.connection_for_write() as connection, connection.Producer() as producer:
            producer.publish(**(whole | changes), routing_key=queue, exchange=queue)

    def row(self, job_id: str) -> Any:
        """A job as it stands in the database."""
        table = self.tables.jobs
        with self.runtime.database.reading() as connection:
            return connection.execute(table.select().where(table.c.id == job_id)).one()

    def _open_callbacks(self, batch: Batch) -> list[Any]:
        table = self.tables.jobs
        is_open = (table.c.announces_id == batch.id) & table.c.outcome.is_(None)
        with self.runtime.database.reading() as connection:
            return list(connection.execute(table.select().where(is_open)))

    @property
    def tables(self) -> Tables:
        return self.runtime.database.tables

    @property
    def gate(self) -> Path:
        """A file for which tasks and patches wait."""
        return self._seen.with_suffix(".gate")

    def seen(self, *words: Any) -> list[list[Any]]:
        """What tasks said they did, where it begins with these words."""
        lines = self._seen.read_text().splitlines() if self._seen.exists() else []
        said = [json.loads(line) for line in lines]
        return [one[len(words) :] for one in said if one[: len(words)] == [*words]]

    def wire(self, process: int) -> str:
        """Each message between a process of a worker with `trace_wire` and PostgreSQL, a line each."""
        trace = self._seen.with_name(f"{self._seen.name}.wire-{process}")
        return trace.read_text(errors="replace") if trace.exists() else ""

    def announced(self, batch: Batch) -> list[str]:
        """Which events the callbacks of a batch have seen; each as often as it was seen.

        Asked once all of its callbacks have ended.
        """
        wait_for(lambda: not self._open_callbacks(batch), lambda: self._open_callbacks(batch))
        return sorted(event for event, *_ in self.seen("announced", batch.id))

    def environment(self, patches: str = "", *, installed: bool = True, **flows: Any) -> dict[str, str]:
        """What a process needs to make this project's app, with some of our settings changed, and patches.py."""
        ours_or_none = {**self.settings["flows"], **flows} if installed else None
        settings = {**self.settings, "flows": ours_or_none}
        ours = {
            SETTINGS: json.dumps(settings),
            "FLOWS_ACCEPTANCE_SEEN": str(self._seen),
            "FLOWS_ACCEPTANCE_PATCHES": patches,
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **ours}

    @contextmanager
    def worker(self, pool: str = "prefork", concurrency: int = 2, *words: str, **flows: Any) -> Iterator[Worker]:
        """Run a worker until the end of the block, where it must stop well if it still runs.

        Args:
            words: more of the command line.
            flows: our settings; `patches`, the names of functions in patches.py; and `installed`, whether
                celery-flows is.
        """
        worker = Worker(self, self._scratch, pool, concurrency, words, flows)
        try:
            worker.await_ready()
            yield worker
            worker.stop()
        except BaseException:
            # What it said is all there is to find out why.
            print(worker.log)
            raise
        finally:
            worker.kill()

    def crash(self, patch: str, key: str, queue: str | None = None) -> tuple[Batch, str]:
        """Let a producer die while it enrolls one job; return the batch and the job's id."""
        done = subprocess.run(
            [sys.executable, "-m", "acceptance.crash", key, queue or self.app.conf.task_default_queue],
            env=self.environment(patch),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 9, done.stderr
        batch_id, job_id = done.stdout.split()
        return Batch.get(batch_id, app=self.app), job_id

    @contextmanager
    def beat(self) -> Iterator[None]:
        """Run celery beat until the end of the block, which asks for a pass of the sweep every half second."""
        schedule = ["--schedule", str(self._scratch / "beat"), "--max-interval", "1"]
        with (self._scratch / "beat.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "acceptance.app", "beat", *schedule],
                cwd=self._scratch,
                env=self.environment("reconcile_often"),
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)

    def reconnect(self, broker_url: str) -> None:
        """Find the broker at another place from now on, here and in workers."""
        self.app.pool.force_close_all()
        self.settings["celery"]["broker_url"] = broker_url
        self.runtime.database.close()
        self.app = make_app(self.settings)

    def _forget_everything(self) -> None:
        # What is left of this project must not be swept up by another, into a queue that nobody reads.
        with self.runtime.database.engine.begin() as connection:
            for table in self.tables.metadata.sorted_tables:
                connection.execute(table.delete())

    def close(self) -> None:
        with suppress(Exception):
            self.app.control.purge()
        self._forget_everything()
        if self.app.conf.result_backend:
            self._close_results()
        self.app.close()
        self.app.pool.force_close_all()
        self.runtime.database.close()

    def _close_results(self) -> None:
        # A result that is thrown away later would open a connection in order to unsubscribe, and leave it open.
        gc.collect()
        self.app.backend.result_consumer.stop()
        self.app.backend.client.connection_pool.disconnect()


class Worker:
    """A worker's process."""

    def __init__(
        self, project: Project, scratch: Path, pool: str, concurrency: int, words: tuple[str, ...], flows: Any
    ) -> None:
        number = next(_numbers)
        self.name = f"w{number}@test"
        self._log = scratch / f"worker-{number}.log"
        command = [sys.executable, "-m", "celery", "-A", "acceptance.app", "worker", "-P", pool]
        command += ["-c", str(concurrency), "-n", self.name, "--loglevel", "info"]
        command += ["--without-gossip", "--without-mingle", *words]
        with self._log.open("w") as file:
            self.process = subprocess.Popen(
                command,
                cwd=scratch,
                env=project.environment(**flows),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def await_ready(self) -> None:
        """Wait until it consumes."""
        wait_for(lambda: " ready." in self.log or self.process.poll() is not None, lambda: self.log)
        assert self.process.poll() is None, self.log

    def await_log(self, pattern: str) -> str:
        """Wait for a line, and return it."""
        found = wait_for(lambda: re.search(f".*(?:{pattern}).*", self.log), lambda: self.log)
        return found[0]

    def stop(self) -> None:
        """Stop it as an operator does, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.await_end()

    def await_end(self) -> None:
        """Wait until it has ended well."""
        try:
            code: int | str = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = "nothing, and does:\n" + "\n".join(self.stacks().values())
        assert code == 0, f"it ended with {code}\n{self.log}"

    def stacks(self) -> dict[int, str]:
        """What the threads of its processes do, the innermost call first; its own before those of its pool."""
        found = subprocess.run(["pgrep", "-g", str(self.process.pid)], capture_output=True, text=True, check=False)
        return {process: self._stack(process) for process in map(int, found.stdout.split())}

    def _stack(self, process: int) -> str:
        before = len(self.log)
        os.kill(process, signal.SIGUSR2)
        # The thread that got the signal comes last, and its outermost call at its end.
        done = re.compile(r"Current thread.*_run_module_as_main", re.DOTALL)
        wait_for(lambda: done.search(self.log, before), lambda: self.log[before:], 10.0)
        return self.log[before:]

    def kill(self) -> None:
        """End it and its children at once."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
