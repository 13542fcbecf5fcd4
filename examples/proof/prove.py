"""Run the night, and prove that its jobs kept to the plan: `python prove.py RECORDING [--only-check]`.

Ends with 1 and says what is wrong, where the recording violates what the plan says.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from night import Accounts, Letters, Night

from celery_flows.preview import Preview

#: The flow that is run, and what each flow in it would run: nothing but the plans themselves says what must be.
NIGHT = Night.preview("")
INSIDE = {"night.Accounts": Accounts.preview(), "night.Letters": Letters.preview()}


def jobs_in(plan: Preview) -> Iterator[str]:
    """The tasks that a plan runs, with those of the flows inside."""
    for node in plan.to_dict()["nodes"]:
        if node["kind"] == "batch":
            yield from jobs_in(INSIDE[node["task"]])
        elif node["kind"] != "join":
            yield node["task"]


def orders_in(plan: Preview) -> Iterator[tuple[set[str], set[str]]]:
    """What must have ended before what begins: sets of tasks, as the plan's edges say."""
    stored = plan.to_dict()
    held = {node["id"]: _held(node) for node in stored["nodes"]}
    after = defaultdict(list)
    for before, dependent, _ in stored["edges"]:
        after[before].append(dependent)
    for before in held:
        # Where several wait for several they meet in a join, which nothing records: look past it.
        waiting = list(after[before])
        while waiting:
            dependent = waiting.pop()
            if held[before] and held[dependent]:
                yield held[before], held[dependent]
            else:
                waiting += after[dependent]
    for node in stored["nodes"]:
        if node["kind"] == "batch":
            yield from orders_in(INSIDE[node["task"]])


def _held(node: dict[str, str]) -> set[str]:
    if node["kind"] == "batch":
        return set(jobs_in(INSIDE[node["task"]]))
    return set() if node["kind"] == "join" else {node["task"]}


def violations(lines: list[tuple[str, str]], plan: Preview) -> Iterator[str]:
    """What in a recording is not as the plan says."""
    planned = list(jobs_in(plan))
    for event in ("begin", "end"):
        recorded = [task for what, task in lines if what == event]
        for task in sorted({*planned, *recorded}):
            if planned.count(task) != recorded.count(task):
                yield f"{task}: {event} was recorded {recorded.count(task)} times, not {planned.count(task)}"
    places = {line: number for number, line in enumerate(lines)}
    for task in planned:
        if places.get(("begin", task), 0) > places.get(("end", task), len(lines)):
            yield f"{task} ended before it began"
    for before, after in orders_in(plan):
        ends = {places["end", task]: task for task in before if ("end", task) in places}
        begins = {places["begin", task]: task for task in after if ("begin", task) in places}
        if ends and begins and max(ends) > min(begins):
            yield f"{begins[min(begins)]} began before {ends[max(ends)]} had ended"


def main(recording: str, mode: str = "") -> None:
    """Run, unless it is only to be checked; then check."""
    path = Path(recording).resolve()
    if mode != "--only-check":
        path.unlink(missing_ok=True)
        print(NIGHT)
        run = Night.start(str(path))
        if run.wait(timeout=60) != "complete":
            raise SystemExit("\n".join(f"{job.task}: {job.error_message}" for job in run.failed_jobs))
    lines = [tuple(json.loads(line)) for line in path.read_text().splitlines()]
    wrong = list(violations(lines, NIGHT))
    for one in wrong:
        print("violated:", one)
    if wrong:
        raise SystemExit(1)
    print(f"{len(lines)} lines, {sum(1 for _ in orders_in(NIGHT))} orders, none violated")


if __name__ == "__main__":
    main(*sys.argv[1:])
