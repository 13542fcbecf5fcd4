"""Testing code that uses batches and flows: run their jobs in the test's own process, and see what came of them.

With pytest say `pytest_plugins = ["celery_flows.testing"]` in conftest.py, for the fixtures `flows_worker`,
`flows_clock` and `flows_setup`. All else here does without pytest.

PYTEST_DONT_REWRITE: a conftest.py may import from here, and there are no bare assertions.
"""

from celery_flows.store.clock import Clock
from celery_flows.testing.announced import assert_callback
from celery_flows.testing.enrolled import assert_enrolled, enrolled
from celery_flows.testing.running import Ran
from celery_flows.testing.services import in_memory
from celery_flows.testing.worker import InProcessWorker, drain

__all__ = [
    "Clock",
    "InProcessWorker",
    "Ran",
    "assert_callback",
    "assert_enrolled",
    "drain",
    "enrolled",
    "in_memory",
]

#: What pytest loads with this plug-in; here, as whoever tests without pytest need not have it.
pytest_plugins = ["celery_flows.testing.plugin"]
