"""The how-to on testing: its blocks are a suite, which pytest runs, and what fails says what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from projects import ROOT

PAGE = ROOT / "docs/howto/testing.md"

_GREEN = re.compile(r"^% not run: pytest runs it\n```python\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_RED = re.compile(
    r"^% not run: pytest runs it, and it fails\n```python\n# (\S+)\n(.*?)^```\n\n```text\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

IMPORTS = """
from celery_flows import Batch
from celery_flows.testing import assert_callback, assert_enrolled
from shop import rebuild_cache, score
"""


def write(folder: Path, blocks: list[tuple[str, ...]]) -> None:
    """Write blocks into the files that their first lines name."""
    for name, code, *_ in blocks:
        with (folder / name).open("a") as file:
            file.write(f"\n\n{code}")


def test_the_page_is_a_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of the page passes, but for those that show what a failure says."""
    monkeypatch.delenv("CELERY_FLOWS_DATABASE_URL", raising=False)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'examples/shop'}")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    green, red = _GREEN.findall(PAGE.read_text()), _RED.findall(PAGE.read_text())
    pytester.makepyfile(test_red=IMPORTS)
    write(pytester.path, green + red)
    found = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    found.assert_outcomes(passed=4, failed=2)
    said = _ID.sub("*", re.sub(r"^E {7}", "", found.stdout.str(), flags=re.MULTILINE))
    for _, _, message in red:
        assert _ID.sub("*", message) in said
