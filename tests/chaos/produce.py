"""A stream of batches of every sort, until stdin is closed: produce.py SEED.

It goes on where the database or the broker is away. It may be killed at any moment, and started anew.
"""

from __future__ import annotations

import random
import select
import sys
from typing import Any, Final

import acceptance.app as worker
from chaos.work import Errand, Knot
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import SQLAlchemyError

from celery_flows import Batch
from celery_flows.errors import BatchCancelled, BatchFinished, BatchUnfinished, EnrolmentAbandoned

#: What a program has to expect where services go away, and where others steer the same batches.
EXPECTED: Final = (
    SQLAlchemyError,
    BrokerError,
    OSError,
    BatchCancelled,
    BatchFinished,
    BatchUnfinished,
    EnrolmentAbandoned,
)

#: Batches that may be under way before the stream waits, so that its end is not far.
MOST: Final = 8

#: How often a batch is retried at most.
ROUNDS: Final = 3

#: What callbacks are asked for.
EVENTS: Final = ("complete", "failure", "settled")

#: How a job ends, and how often of so many.
ENDS: Final = ("well",) * 7 + ("retried",) * 2


class Stream:
    """One producer."""

    def __init__(self, app: Any, seed: str) -> None:
        self._app = app
        self._random = random.Random(seed)

    def step(self) -> None:
        """Make another batch, if there are not too many, and steer one that is there."""
        if len(Batch.list(app=self._app, state="running", limit=MOST)) < MOST:
            self._random.choice(KINDS)(self)
        chance = self._random.random()
        if chance < 0.1:
            self.retry()
        elif chance < 0.15:
            self.cancel()

    def plain(self) -> None:
        """Jobs that end well, and callbacks."""
        with self._batch("plain", on_loss="retry").jobs():
            self._jobs(8)

    def tolerant(self) -> None:
        """Jobs of which some fail, and may."""
        tolerate = self._random.choice((3, "30%"))
        with self._batch("tolerant", tolerate=tolerate).jobs():
            self._jobs(8, ("badly", *ENDS))

    def failing(self) -> None:
        """Jobs of which one fails, and must not."""
        with self._batch("failing").jobs():
            self._jobs(5)
            self._call("note_again", "badly")

    def nested(self) -> None:
        """Children and grandchildren, some of which fail."""
        with self._batch("nested", tolerate=self._random.choice((0, 1))).jobs():
            self._jobs(2)
            with self._batch("child").jobs():
                self._jobs(2, ("badly", *ENDS))
                with self._batch("grandchild", on_loss="retry").jobs():
                    self._jobs(2)

    def growing(self) -> None:
        """Jobs that add to their batch."""
        with self._batch("growing", tolerate=2).jobs():
            self._jobs(2)
            self._call("grow", 2)

    def streaming(self) -> None:
        """A feed in several chunks, with a child in it."""
        with self._batch("streaming", on_loss="retry").jobs(streaming=True):
            for _ in range(3):
                self._jobs(4)
            with self._batch("child of a stream", on_loss="retry").jobs():
                self._jobs(2)

    def flow(self) -> None:
        """A sequence, or a graph with one in it, planned here or in a worker."""
        cls, *args = self._random.choice(((Errand,), (Knot, "badly"), (Knot, "well")))
        flow: Any = cls.using(app=self._app, description="flow")
        for event in EVENTS:
            flow.on(event, self._app.tasks["jobs.tell"].s(event))
        self._random.choice((flow.start, flow.delay))(*args)

    def _batch(self, sort: str, **options: Any) -> Batch:
        batch = Batch.create(app=self._app, description=sort, **options)
        for event in EVENTS:
            batch.on(event, self._app.tasks["jobs.tell"].s(event))
        return batch

    def _jobs(self, number: int, ends: tuple[str, ...] = ENDS) -> None:
        for _ in range(number):
            task = self._random.choice(("note", "note_late", "note_again", "note_slowly", "pass_by"))
            takes_end = task in ("note", "note_late", "note_again")
            self._call(task, *([self._random.choice(ends)] if takes_end else []))

    def _call(self, task: str, *args: Any) -> None:
        self._app.tasks[f"jobs.{task}"].delay(*args)

    def retry(self) -> None:
        """Open another round of a batch that is finished."""
        state, mode = self._random.choice(
            (("failed", "failed"), ("failed", "failed+downstream"), ("cancelled", "failed"), ("complete", "all"))
        )
        found = Batch.list(app=self._app, state=state, limit=MOST)
        may = [one for one in found if one.settled_at is not None and one._known().round < ROUNDS]
        if may:
            self._random.choice(may).retry(mode)

    def cancel(self) -> None:
        """End a batch early that runs."""
        found = Batch.list(app=self._app, state="running", limit=MOST)
        if found:
            self._random.choice(found).cancel(terminate=self._random.random() < 0.5)


KINDS: Final = [
    Stream.plain,
    Stream.tolerant,
    Stream.failing,
    Stream.nested,
    Stream.growing,
    Stream.streaming,
    # As there are several sorts of them.
    *[Stream.flow] * 3,
]


def is_told_to_stop(within: float) -> bool:
    """Whether stdin is closed; wait so many seconds for it."""
    return bool(select.select([sys.stdin], [], [], within)[0])


def main(seed: str) -> None:
    """Produce until told to stop."""
    stream = Stream(worker.app, seed)
    while not is_told_to_stop(0.1):
        try:
            stream.step()
        except EXPECTED as error:
            print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
