"""Index a folder and search it: `python search.py FOLDER WORD ...`."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from library import Document

from celery_flows import Template

FOUND = (
    "SELECT title, author, snippet(texts, -1, '[', ']', ' ... ', 8) FROM texts WHERE texts MATCH ? ORDER BY rank"
)


def main(folder: str, *words: str) -> None:
    """Run the template, print what the run remembers, and ask the index."""
    template = Template.load(Path(__file__).with_name("defaults.yaml"))
    run = template.start(folder=folder)
    if run.wait(timeout=60) != "complete":
        raise SystemExit("\n".join(f"{job.task}: {job.error_message}" for job in run.failed_jobs))
    remembered = run.memory.read("documents", "summary", "index")
    for document in map(Document.model_validate, remembered["documents"]):
        print(f"{document.title}, {document.author}: {', '.join(document.keywords)}")
    print(remembered["summary"])
    with closing(sqlite3.connect(remembered["index"])) as connection:
        for title, author, snippet in connection.execute(FOUND, (" ".join(words),)):
            print(f"found in {title} ({author}): {' / '.join(snippet.splitlines())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
