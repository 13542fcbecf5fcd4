"""The benchmarks are no part of the package: they are imported from where they stand."""

from __future__ import annotations

import sys

from projects import ROOT

sys.path.insert(0, str(ROOT))
