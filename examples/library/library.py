"""Typed tasks that put a folder of texts into a full-text index: `celery -A library worker`."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from celery import Celery
from pydantic import BaseModel, Field

from celery_flows import Flows, Orchestration, Template, typed_task

app = Celery("library", broker="redis://localhost/0")
# What the jobs that read a text return is put together: a list of documents, and their words added up.
flows = Flows(app, database_url="sqlite:///flows.sqlite3", merges={"documents": "append", "words": "sum"})

WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


class EnrichAndIndex(BaseModel):
    """What the template is run with. The run remembers it, so every job may ask for any of it."""

    folder: Path
    index: Path
    pattern: str = "*.txt"
    keywords: int = Field(default=3, ge=0)
    shortest: int = Field(default=5, description="letters that a keyword has at least")


class Page(BaseModel):
    """What one text is read with: its path is given, the rest is remembered."""

    path: Path
    keywords: int
    shortest: int


class Document(BaseModel):
    """What is known of a text."""

    name: str
    title: str
    author: str
    keywords: list[str]
    text: str


class Enriched(BaseModel):
    """What one text adds to what the run remembers."""

    documents: Document
    words: int


class Shelf(BaseModel):
    """What is indexed: all that was added."""

    index: Path
    documents: list[Document] = []


class Indexed(BaseModel):
    """How many texts the index holds."""

    indexed: int


class Totals(BaseModel):
    """What the summary is made of."""

    indexed: int
    words: int = 0


class Summary(BaseModel):
    """What the program prints."""

    summary: str


@typed_task(acks_late=True)
def enrich(page: Page) -> Enriched:
    """Find title, author and keywords of a text; its first two lines say who wrote what."""
    title, author, *lines = page.path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(lines).strip()
    words = [word.lower() for word in WORD.findall(text)]
    common = Counter(sorted(word for word in words if len(word) >= page.shortest)).most_common(page.keywords)
    keywords = [word for word, _ in common]
    document = Document(name=page.path.name, title=title, author=author, keywords=keywords, text=text)
    return Enriched(documents=document, words=len(words))


@typed_task(acks_late=True)
def index(shelf: Shelf) -> Indexed:
    """Write all documents into the index, in place of what it held."""
    rows = [
        (document.name, document.title, document.author, " ".join(document.keywords), document.text)
        for document in shelf.documents
    ]
    with closing(sqlite3.connect(shelf.index)) as connection, connection:
        connection.execute("DROP TABLE IF EXISTS texts")
        connection.execute(
            "CREATE VIRTUAL TABLE texts USING fts5(name UNINDEXED, title, author, keywords, text, tokenize=porter)"
        )
        connection.executemany("INSERT INTO texts VALUES (?, ?, ?, ?, ?)", rows)
    return Indexed(indexed=len(rows))


@typed_task
def summarize(totals: Totals) -> Summary:
    """Say what was done."""
    return Summary(summary=f"{totals.indexed} texts, {totals.words} words")


class Indexing(Orchestration):
    """All texts side by side, then the index, then the summary."""

    def plan(self, folder: str, pattern: str) -> None:
        """Only what reads a text is told anything: the others find what they need in the run's memory."""
        with self.in_parallel():
            for path in sorted(Path(folder).glob(pattern)):
                self.run(enrich, {"path": path.resolve()})
        self.run(index)
        self.run(summarize)


@Template.register("enrich_and_index", input=EnrichAndIndex)
def enrich_and_index(params: EnrichAndIndex) -> Any:
    """Build the flow."""
    return Indexing.s(str(params.folder), params.pattern)
