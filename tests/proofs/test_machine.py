"""Any sequence of transitions, crashes and pauses that Hypothesis can think of keeps the rules, and ends."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from proofs.exhaustive import EXHAUSTIVE
from proofs.life import Life
from proofs.world import Mortal

from celery_flows.store.database import Database

#: How many lives, in `make test` and in `make exhaustive`, and how long they last.
EXAMPLES = {"sqlite": (40, 3000), "postgresql": (8, 500), "mariadb": (8, 500)}
STEPS = (25, 60)


@pytest.mark.timeout(3600 if EXHAUSTIVE else 120)
def test_nothing_is_lost_whatever_happens(database: Database, database_kind: str) -> None:
    """Each step keeps the rules, and a few sweeps later all batches are finished, all callbacks published."""
    mortal = Mortal(database.url)
    chosen = settings(
        # The same lives in each run of `make test`; others each time where there is time for many.
        derandomize=not EXHAUSTIVE,
        print_blob=True,
        database=None,
        deadline=None,
        max_examples=EXAMPLES[database_kind][EXHAUSTIVE],
        stateful_step_count=STEPS[EXHAUSTIVE],
        # To make a failure small takes minutes: `make exhaustive` does.
        phases=[Phase.generate, *([Phase.shrink] if EXHAUSTIVE else [])],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(lambda: Life(mortal), settings=chosen)
    finally:
        mortal.close()
