"""What the documentation calls proved is proved by a test that is there."""

from __future__ import annotations

import re

from projects import ROOT

PAGES = [*(ROOT / "docs/explanation").glob("*.md")]


def test_every_test_that_is_named_is_there() -> None:
    """Each `tests/...py::test_...` in the explanations names a test function of that file."""
    named = [found for page in PAGES for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())]
    assert len(named) > 20
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text()
    ]
    assert missing == []


def test_every_death_names_its_proof() -> None:
    """Each row of the table of deaths names a test with real workers."""
    _, _, text = (ROOT / "docs/explanation/guarantees.md").read_text().partition("\n## Deaths\n")
    rows = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 25
    assert [row for row in rows if not re.search(r"\| `tests/acceptance/\w+\.py::\w+`[^|]*\|$", row)] == []
