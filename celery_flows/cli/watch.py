"""The command that watches a batch until it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

from celery_flows.cli.failures import CANCELLED, DETACHED, FAILED, TIMED_OUT, FlowsCommand
from celery_flows.cli.live import open_bar
from celery_flows.cli.output import Output, coloured
from celery_flows.cli.params import Seconds
from celery_flows.cli.target import Target
from celery_flows.cli.words import counted, line_of
from celery_flows.progress import Progress
from celery_flows.queries.batches import Left, batch, find_id, left
from celery_flows.queries.progress import progress
from celery_flows.states import BatchState
from celery_flows.store.database import Database

#: How the command ends with the batch's fate.
_CODES: Final = {BatchState.COMPLETE: 0, BatchState.FAILED: FAILED, BatchState.CANCELLED: CANCELLED}


@dataclass(frozen=True)
class Look:
    """A batch at one moment."""

    id: str
    state: BatchState
    is_finished: bool
    progress: Progress
    left: Left

    @property
    def record(self) -> dict[str, Any]:
        """For programs."""
        more = {"state": self.state, "finished": self.is_finished, "progress": self.progress.to_dict()}
        return {"id": self.id, **more, "left": self.left._asdict()}

    @property
    def what(self) -> tuple[Any, ...]:
        """What is a change where it differs: all but the time."""
        return self.state, self.is_finished, dict(self.progress), self.progress.running, self.left

    def __str__(self) -> str:
        children, callbacks = self.left
        parts = [f"{coloured(self.state)}: {line_of(self.progress)}"]
        parts += [f"{counted(children, 'child', 'children')} unfinished"] if children else []
        parts += [f"{counted(callbacks, 'callback')} to run"] if callbacks else []
        return ", ".join(parts)


@click.command(cls=FlowsCommand)
@click.argument("batch_id", metavar="ID")
@click.option("--timeout", type=Seconds(), help="Give up after that time, such as 10m; 0: look once.")
@click.option("--interval", type=Seconds(), default="1s", show_default=True, help="Time between two looks.")
@click.pass_context
def watch(context: click.Context, batch_id: str, timeout: float | None, interval: float) -> None:
    """Watch the batch ID until it is finished.

    There is a bar on a terminal, elsewhere a line per change. It ends as the batch did: 0 complete, 1 failed, 5
    cancelled; 4 after --timeout. Ctrl-C stops the watching, and the batch goes on.
    """
    out = Output(context)
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with Target(context).reading() as database:
            batch_id = find_id(database, batch_id)
            seen = _watch(database, batch_id, out, deadline, max(interval, 0.05))
    except KeyboardInterrupt:
        out.note(f"\nThe batch goes on. Watch it again: flows watch {batch_id}")
        context.exit(DETACHED)
    if not seen.is_finished:
        out.note(f"It is not finished yet. Why: flows explain {batch_id}")
    context.exit(_CODES[seen.state] if seen.is_finished else TIMED_OUT)


def look(database: Database, batch_id: str) -> Look:
    """See where a batch stands; the count comes last, so that of a finished batch it is complete."""
    record = batch(database, batch_id)
    beside = left(database, batch_id)
    return Look(batch_id, record.state, record.settled_at is not None, progress(database, batch_id), beside)


def _watch(database: Database, batch_id: str, out: Output, deadline: float | None, interval: float) -> Look:
    with _shown(out) as show:
        while True:
            seen = look(database, batch_id)
            show(seen)
            left_over = interval if deadline is None else deadline - time.monotonic()
            if seen.is_finished or left_over <= 0:
                return seen
            time.sleep(min(interval, left_over))


@contextmanager
def _shown(out: Output) -> Iterator[Callable[[Look], None]]:
    last: list[Any] = [None]
    with open_bar(is_wanted=not out.is_json, has_colour=out.has_colour) as bar:

        def show(seen: Look) -> None:
            if bar is not None:
                bar(seen.progress, click.unstyle(str(seen)))
            elif seen.what != last[0]:
                last[0] = seen.what
                out.say(seen.record, str(seen))

        yield show
