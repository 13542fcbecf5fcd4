"""A nested flow whose jobs write down when they begin and end: `celery -A night worker`."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from celery_flows import Flows, Orchestration, Sequence, current_job, step

app = Celery("night", broker="redis://localhost/0")
flows = Flows(app, database_url="sqlite:///flows.sqlite3")


@contextmanager
def recorded(name: str) -> Iterator[None]:
    """Write down that a job begins, and that it ends: each a line at the end of one file."""
    recording = current_job().memory.read("recording")["recording"]
    write(recording, ["begin", name])
    yield
    write(recording, ["end", name])


def write(path: str, line: list[str]) -> None:
    """Add a line, in one write, so that lines of several processes stand in the order of what they say."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def make_job(name: str) -> None:
    """Register a task of its own for each place in the plan, so that its name says which job a line is of."""

    @app.task(name=f"night.{name}")
    def work() -> None:
        with recorded(f"night.{name}"):
            time.sleep(random.uniform(0.005, 0.03))


for name in (
    *("lock_doors", "sweep_hall", "sweep_attic", "sweep_cellar", "report", "lights_out"),
    *("open_books", "count_cash", "sum_sales", "check_tax", "check_fees", "sign", "close_books"),
    *("collect", "stamp"),
):
    make_job(name)


class Letters(Sequence):
    """Steps one after another, of which one is a method."""

    collect = step("night.collect")
    stamp = step("night.stamp")

    @step
    def post(self) -> None:
        """A method of the class is a task named after it."""
        with recorded("night.Letters.post"):
            self.data["posted"] = True


class Accounts(Orchestration):
    """A flow inside: series and parallel, nested."""

    def plan(self) -> None:
        """Say what is run."""
        self.run("night.open_books")
        with self.in_parallel():
            self.run("night.count_cash")
            with self.in_series():
                self.run("night.sum_sales")
                with self.in_parallel():
                    self.run("night.check_tax")
                    self.run("night.check_fees")
                self.run("night.sign")
        self.run("night.close_books")


class Night(Orchestration):
    """The whole: flows of two kinds side by side, between what comes before and after both."""

    def plan(self, recording: str) -> None:
        """Say what is run; where it is recorded is remembered for all of them."""
        self.run("night.lock_doors")
        with self.in_parallel():
            self.run(Accounts)
            self.run(Letters, recording=recording)
            for room in ("hall", "attic", "cellar"):
                self.run(f"night.sweep_{room}")
        with self.in_parallel():
            self.run("night.report")
            self.run("night.lights_out")
