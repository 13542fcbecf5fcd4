"""What takes minutes is collected by `make exhaustive` only."""

from __future__ import annotations

from proofs.exhaustive import EXHAUSTIVE

collect_ignore = [] if EXHAUSTIVE else ["test_all_interleavings.py"]
