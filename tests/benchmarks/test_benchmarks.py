"""The benchmarks run; what they measure is nobody's test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from projects import PATIENCE, ROOT


def test_a_small_run_prints_a_ratio_for_each_peer_and_writes_it_down(tmp_path: Path, redis_url: str) -> None:
    """Each case is measured beside each peer, and the JSON holds what the table shows."""
    words = ["--n", "20", "--repetitions", "1", "--database", "sqlite", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "fanout", "drain", *words],
        cwd=ROOT,
        env={**os.environ, "FLOWS_TEST_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.json")
    rows = {(row["case"], row["peer"]): row["ratio"] for row in json.loads(file.read_text())["rows"]}
    assert set(rows) == {
        *(("fanout", peer) for peer in ("delay in a loop", "group", "chord")),
        *(("drain", peer) for peer in ("group", "chord")),
    }
    assert all(ratio > 0 for ratio in rows.values())
    assert all(f"{case:8} {peer:16}" in done.stdout for case, peer in rows)
