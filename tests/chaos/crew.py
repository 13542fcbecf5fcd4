"""The processes of a place: workers and producers, started again when they died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from acceptance.running import PATIENCE, Project, Worker

#: Leases that run out while something is frozen, and repairs to match. A job may lose many workers here.
SHORT: Final[dict[str, Any]] = {
    "lease_timeout": 3.0,
    "heartbeat_interval": 0.5,
    "sweep_interval": 0.3,
    "requeue_after": 1.0,
    "max_losses": 100,
    "chunk_size": 5,
}

#: What Celery says when one of the pool dies while it starts, and then ends.
_NO_POOL: Final = "Could not start worker processes"

#: What Celery says before it ends by an error that it had not expected.
_CRASH: Final = "Unrecoverable error"

#: Where a process of Celery's pool waits for its next task, and where a worker waits for the end of its pool.
_IDLE: Final = "in receive"
_JOINING: Final = "in join"

#: How the package's own code shows in a traceback.
_OURS: Final = f"{os.sep}celery_flows{os.sep}"


class Producer:
    """A process that makes batches."""

    def __init__(self, project: Project, log: Path, seed: str) -> None:
        self._path = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chaos.produce", seed],
                env=project.environment(),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
            )

    @property
    def log(self) -> str:
        """What it said."""
        return self._path.read_text()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> None:
        """Let it end when it has made what it makes now."""
        self._close()
        code = self.process.wait(PATIENCE)
        assert code == 0, f"{self.log}\na producer ended with {code}"

    def _close(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()


class Crew:
    """So many workers and producers of one project; whoever is gone is replaced."""

    def __init__(self, project: Project, scratch: Path, seed: str, workers: int, producers: int) -> None:
        self._project, self._scratch, self._seed = project, scratch, seed
        self._number = 0
        self.workers = [self._worker() for _ in range(workers)]
        self.producers = [self._producer() for _ in range(producers)]
        #: Whose main process alone was killed: what is left of their pools.
        self._orphaned: list[int] = []
        #: The end of each who ended without having been killed.
        self.deserters: list[str] = []
        #: The errors by which Celery itself let a worker end: one more fault to survive.
        self.crashes: list[str] = []
        #: Of these, who had to be killed when they were to end.
        self.unended: list[int] = []

    def _worker(self) -> Worker:
        return Worker(self._project, self._scratch, "prefork", 2, (), {})

    def _producer(self) -> Producer:
        self._number += 1
        log = self._scratch / f"producer-{self._number}.log"
        return Producer(self._project, log, f"{self._seed} producer {self._number}")

    def tend(self) -> None:
        """Start again who died."""
        for number, worker in enumerate(self.workers):
            if worker.process.poll() is not None:
                self._note(worker)
                self.workers[number] = self._worker()
        for number, producer in enumerate(self.producers):
            if producer.process.poll() is not None:
                self._note(producer)
                producer.kill()
                self.producers[number] = self._producer()

    def _note(self, one: Worker | Producer) -> None:
        code, (_, crash, after) = one.process.returncode, one.log.partition(_CRASH)
        if code == -signal.SIGKILL or _NO_POOL in one.log:
            return
        if crash and _OURS not in after:
            self.crashes.append(after.partition("\n")[0].strip(": "))
        else:
            self.deserters.append(f"{type(one).__name__} ended with {code}: {one.log[-6000:]}")

    def orphan(self, worker: Worker) -> None:
        """Kill a worker's main process alone."""
        worker.process.kill()
        worker.process.wait()
        self._orphaned.append(worker.process.pid)

    def stop_producing(self) -> None:
        """Let all producers end by themselves."""
        for producer in self.producers:
            producer.stop()
        self.producers = []

    def await_ready(self) -> None:
        """Wait until all workers consume."""
        for worker in self.workers:
            worker.await_ready()

    def stop(self) -> None:
        """Let all workers end by themselves, all at once."""
        # One that has just been started does not listen yet.
        self.await_ready()
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM)
        for worker in self.workers:
            self._await_end(worker)

    def _await_end(self, worker: Worker) -> None:
        try:
            assert worker.process.wait(PATIENCE) == 0, worker.log
        except subprocess.TimeoutExpired:
            stacks = worker.stacks()
            main = stacks.pop(worker.process.pid)
            # Seen where a process of the pool was forked in the moment in which the worker lost its broker.
            assert _JOINING in main, main
            assert all(_IDLE in one for one in stacks.values()), "\n".join(stacks.values())
            self.crashes.append("its pool's processes wait for work, and were never told to end")
            self.unended.append(worker.process.pid)
            worker.kill()

    def kill(self) -> None:
        """End all at once."""
        for one in (*self.workers, *self.producers):
            one.kill()
        for group in self._orphaned:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    @property
    def said(self) -> str:
        """What the workers said last."""
        return "\n".join(one.log[-2000:] for one in self.workers)
