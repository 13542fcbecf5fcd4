"""The command that shows a batch: what it is, what is inside it, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.inside import Branch, Failed, Node, failed_jobs, look_inside
from celery_flows.cli.output import Output, Record, coloured, cut, lines, printable
from celery_flows.cli.records import done_of, error_of, of_batch, of_job, state_of, task_of, title_of
from celery_flows.cli.target import Target
from celery_flows.cli.words import counted, line_of, moment
from celery_flows.queries.batches import batch, find_id
from celery_flows.queries.jobs import callbacks
from celery_flows.queries.progress import progress, total_progress
from celery_flows.shown.words import short

#: Of a context, and of an error, people are shown as much.
_LONGEST = 500


@click.command(cls=FlowsCommand)
@click.argument("batch_id", metavar="ID")
@click.pass_context
def show(context: click.Context, batch_id: str) -> None:
    """Show the batch ID: how far it is, and what failed.

    With its callbacks, its children as a tree, and the failed jobs with their errors.
    """
    target, out = Target(context), Output(context)
    with target.reading() as database:
        found = batch(database, find_id(database, batch_id))
        now = progress(database, found.id)
        in_all = total_progress(database, found.id)
        told = callbacks(database, found.id, found.round, target.redact)
        inside = look_inside(database, found.id)
        failed, are_more = failed_jobs(database, found.id, inside, target.redact)
    record = {
        **of_batch(found, now),
        "total_progress": in_all.to_dict(),
        "callbacks": [of_job(one) for one in told],
        "children": [_record(node) for node in inside.nodes],
        "failed_jobs": [{**of_job(one.job), "batch_id": one.batch_id} for one in failed],
    }
    written = [
        *_facts(record, line_of(now), line_of(in_all) if inside.nodes else None),
        *_callbacks(record),
        *_children(record, inside),
    ]
    written += _failed(record, failed, are_more=are_more)
    out.say(record, "\n".join(written))


def _record(node: Node) -> dict[str, Any]:
    return {**of_batch(node.batch, node.progress), "children": [_record(one) for one in node.inside.nodes]}


def _facts(record: Record, progress: str, in_all: str | None) -> Iterator[str]:
    yield click.style(f"Batch {record['id']}", bold=True)
    facts = {
        "about": printable(record["description"] or ""),
        "state": coloured(state_of(record)),
        "progress": progress,
        "in all": in_all,
        "kind": f"{record['kind']} ({record['flow']})" if record["flow"] else record["kind"],
        "tags": printable(", ".join(record["tags"])),
        "key": printable(record["key"] or ""),
        "child of": record["parent_id"],
        "created": moment(record["created_at"]),
        "started": moment(record["started_at"]),
        "decided": moment(record["completed_at"]),
        "finished": moment(record["settled_at"]),
        "round": record["round"] if record["round"] > 1 else None,
        "tolerates": record["tolerate"] if record["tolerate"] != "0" else None,
        "on loss": record["on_loss"],
        "context": _context(record["context"]),
    }
    for name, said in facts.items():
        if said:
            yield f"  {name:<10} {said}"


def _context(context: Any) -> str | None:
    if context is None:
        return None
    return cut(printable(json.dumps(context, default=str, ensure_ascii=False)), _LONGEST)


def _callbacks(record: Record) -> Iterator[str]:
    if record["callbacks"]:
        yield "Callbacks"
    for one in record["callbacks"]:
        error = cut(f"  {printable(error_of(one) or '')}", _LONGEST).rstrip()
        yield f"  {one['event']:<10} {printable(one['task'])}: {coloured(one['state'])}{error}"


def _children(record: Record, inside: Branch) -> Iterator[str]:
    if inside.nodes:
        yield "Children"
    yield from _branches(record["id"], inside, "  ")


def _branches(batch_id: str, branch: Branch, before: str) -> Iterator[str]:
    for node in branch.nodes:
        is_last = node is branch.nodes[-1] and not branch.are_more
        batch = of_batch(node.batch, node.progress)
        title = cut(printable(title_of(batch) or batch["kind"]), 60)
        arm, space = ("└── ", "    ") if is_last else ("├── ", "│   ")
        state = coloured(state_of(batch))
        yield f"{before}{arm}{short(node.batch.id)}  {state}  {done_of(batch)}  {title}"
        yield from _branches(node.batch.id, node.inside, before + space)
    if branch.are_more:
        yield f"{before}└── and more: flows list --parent {short(batch_id)}"


def _failed(record: Record, failed: Sequence[Failed], *, are_more: bool) -> Iterator[str]:
    if failed:
        yield "Failed jobs"
    for one in failed:
        said, where = of_job(one.job), "" if one.batch_id == record["id"] else f" of {short(one.batch_id)}"
        yield f"  {one.job.id}{where}  {printable(task_of(said))}, {counted(one.job.attempts, 'attempt')}"
        yield from (f"      {line}" for line in lines(cut(error_of(said) or "", _LONGEST)))
    if are_more:
        yield f"  and more: flows jobs {short(failed[-1].batch_id)} --state failed"
