"""The demo itself: enroll, watch, and check the manifest against the files."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import click

from celery_flows.batch import Batch
from celery_flows.cli.demo.files import Folder
from celery_flows.cli.demo.stage import Stage
from celery_flows.cli.demo.tally import Totals, add_up, measure_file
from celery_flows.cli.demo.tasks import MANIFEST
from celery_flows.cli.demo.watch import Watch
from celery_flows.cli.demo.workers import LOG
from celery_flows.cli.failures import Failure
from celery_flows.cli.live import open_bar, say
from celery_flows.cli.output import Output, as_json
from celery_flows.cli.words import line_of

#: Seconds between two looks.
_INTERVAL = 0.25

#: Seconds without any change, after which something must be wrong.
_PATIENCE = 120


def play(stage: Stage, root: Folder, out: Output, *, fail: bool) -> bool:
    """Run a batch over a folder, show how it goes, and check what comes out; say whether it is right."""
    logging.basicConfig(filename=stage.run / LOG, level=logging.INFO)
    started = time.monotonic()
    batches = enroll(stage, root, fail=fail)
    took = time.monotonic() - started
    said = f"Enrolled {root.count:,} jobs in {len(batches):,} batches in {took:.1f} s"
    out.say({"batch": batches[0].id, "jobs": root.count, "batches": len(batches), "seconds": took}, said)
    _watch(stage, Watch(batches), out)
    manifest = json.loads((stage.run / MANIFEST).read_text("ascii"))
    return _check(stage, root, manifest, out, fails=int(fail))


def enroll(stage: Stage, root: Folder, *, fail: bool) -> list[Batch]:
    """Make a batch per folder, each the child of the one above, with a job per file.

    Returns:
        All batches, the topmost first.
    """
    must_fail = root.every_file[root.count // 2] if fail else None
    batch = Batch.create(description=str(root.path), tags=[stage.run.name], app=stage.app)
    tasks = stage.app.tasks
    batch.on("complete", tasks["demo.tell_complete"]).on("failure", tasks["demo.tell_failure"])
    batch.on("settled", tasks["demo.write_manifest"].s(str(stage.run)))
    return _enroll(stage, batch, root, must_fail)


def _enroll(stage: Stage, batch: Batch, folder: Folder, must_fail: str | None) -> list[Batch]:
    batches, measure = [batch], stage.app.tasks["demo.measure"]
    with batch.jobs():
        for path in folder.files:
            measure.delay(str(folder.path), path, str(stage.run), must_fail=path == must_fail)
        for below in folder.folders:
            child = Batch.create(description=below.name, tags=[stage.run.name], app=stage.app)
            batches += _enroll(stage, child, below, must_fail)
    return batches


def _watch(stage: Stage, watch: Watch, out: Output) -> None:
    """Show the progress until the manifest is written."""
    changed, seen = time.monotonic(), None
    with open_bar(is_wanted=not out.is_json, has_colour=out.has_colour) as bar:
        while seen is None or seen.pending or not (stage.run / MANIFEST).exists():
            progress = watch.look()
            if seen is None or dict(progress) != dict(seen):
                # A child batch that failed is a failed job of the batch above it.
                words = line_of(progress, aside=", batches above included")
                if bar is not None:
                    bar(progress, words)
                else:
                    say(as_json({"progress": progress.to_dict()}) if out.is_json else words)
                changed, seen = time.monotonic(), progress
            if not stage.workers.are_alive() or time.monotonic() - changed > _PATIENCE:
                raise Failure(f"Nothing goes on any more; the workers' log is {stage.run / LOG}")
            time.sleep(_INTERVAL)


def _check(stage: Stage, root: Folder, manifest: dict[str, Any], out: Output, fails: int) -> bool:
    """Compare the manifest with the files, read once more here, one after the other."""
    failed = {one["path"] for one in manifest["failed"]}
    expected = add_up(measure_file(str(root.path), path) for path in root.every_file if path not in failed)
    found = Totals(**{name: manifest[name] for name in expected.to_dict()})
    is_right = found == expected and len(failed) == fails
    if not is_right:
        click.echo(f"WRONG: this process counts {expected}, and expected {fails} failed jobs.", err=True)
    written = stage.run / MANIFEST
    record = {"manifest": str(written), "is_right": is_right, "check": root.in_shell(), "failed": sorted(failed)}
    out.say(record, "\n".join([f"Manifest: {written}", *_how_to_check(root, failed, is_right=is_right)]))
    return is_right


def _how_to_check(root: Folder, failed: set[str], *, is_right: bool) -> Iterator[str]:
    if is_right:
        yield "Checked: its totals are those of the files, read once more by this process."
    yield "Check it yourself (files, then lines and bytes, then sha256):"
    yield from (f"  {command}" for command in root.in_shell())
    if failed:
        yield f"These count {len(failed)} more than the manifest: {', '.join(map(ascii, sorted(failed)))}"
