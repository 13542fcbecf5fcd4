"""Flows: any sequence of transitions, crashes and pauses that can be thought of keeps the order, and ends."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from proofs.exhaustive import EXHAUSTIVE
from proofs.flow_life import FlowLife
from proofs.world import Mortal

from celery_flows.store.database import Database

#: How many lives, in `make test` and in `make exhaustive`, and how long they last.
EXAMPLES = {"sqlite": (25, 3000), "postgresql": (4, 500), "mariadb": (4, 500)}
STEPS = (25, 60)


@pytest.mark.timeout(7200 if EXHAUSTIVE else 120)
def test_no_job_runs_before_its_turn_whatever_happens(database: Database, database_kind: str) -> None:
    """Each claim comes after what it waits for, nothing is complete twice in a round, and everything ends."""
    mortal = Mortal(database.url)
    chosen = settings(
        derandomize=not EXHAUSTIVE,
        print_blob=True,
        database=None,
        deadline=None,
        max_examples=EXAMPLES[database_kind][EXHAUSTIVE],
        stateful_step_count=STEPS[EXHAUSTIVE],
        phases=[Phase.generate, *([Phase.shrink] if EXHAUSTIVE else [])],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(lambda: FlowLife(mortal), settings=chosen)
    finally:
        mortal.close()
