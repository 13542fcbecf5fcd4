"""Whether there is time for everything: `make exhaustive` says so."""

from __future__ import annotations

import os

EXHAUSTIVE = os.environ.get("FLOWS_TEST_EXHAUSTIVE") == "1"
