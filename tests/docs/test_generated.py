"""The generated pages and drawings are those of the code at hand."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from projects import ROOT


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "../howto/gallery.svg"])
def test_a_generated_page_is_current(name: str) -> None:
    """What stands in docs/ is what the code says today; `python docs/generate.py` writes it anew."""
    page = (ROOT / "docs/reference" / name).read_text()
    assert page == _generator().PAGES[name](), "run: python docs/generate.py"
