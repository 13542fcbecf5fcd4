"""Progress: five counts that add up, and what follows from them."""

from __future__ import annotations

import json

import pytest

from celery_flows.progress import Progress

HALF = Progress(total=10, complete=3, failed=1, cancelled=1, pending=5, running=2, elapsed=2.5)


def test_it_is_a_mapping_of_the_five_counts() -> None:
    """In this order, and of nothing else."""
    assert dict(HALF) == {"total": 10, "complete": 3, "failed": 1, "cancelled": 1, "pending": 5}
    assert list(HALF) == ["total", "complete", "failed", "cancelled", "pending"]
    assert len(HALF) == 5
    with pytest.raises(KeyError):
        HALF["running"]
    assert "percent" not in HALF


def test_it_is_equal_to_a_mapping_with_the_same_counts() -> None:
    """What else is known of the moment does not count."""
    assert dict(HALF) == HALF
    assert Progress(total=10, complete=3, failed=1, cancelled=1, pending=5) == HALF
    assert Progress(total=10, complete=4, failed=1, cancelled=0, pending=5) != HALF


def test_it_can_not_be_changed() -> None:
    """It is what was read at one moment."""
    with pytest.raises(AttributeError):
        HALF.total = 11  # type: ignore[misc] # that is the point


def test_what_follows_from_the_counts() -> None:
    """Percent of the known, jobs per second so far, seconds to go at that rate."""
    assert (HALF.finished, HALF.percent, HALF.rate, HALF.eta) == (5, 50.0, 2.0, 2.5)


@pytest.mark.parametrize(
    ("progress", "percent", "rate", "eta"),
    [
        (Progress(0, 0, 0, 0, 0), 100.0, 0.0, 0.0),
        (Progress(4, 0, 0, 0, 4, elapsed=9.0), 0.0, 0.0, None),
        (Progress(4, 1, 1, 0, 2, elapsed=0.0), 50.0, 0.0, None),
        (Progress(4, 4, 0, 0, 0, elapsed=2.0), 100.0, 2.0, 0.0),
    ],
    ids=["nothing", "nothing yet", "no time", "everything"],
)
def test_at_the_ends(progress: Progress, percent: float, rate: float, eta: float | None) -> None:
    """100 percent of nothing; no rate without time; no guess before the first end; no wait after the last."""
    assert (progress.percent, progress.rate, progress.eta) == (percent, rate, eta)


def test_it_goes_into_json() -> None:
    """Everything, as plain numbers."""
    third = Progress(total=3, complete=1, failed=0, cancelled=0, pending=2, running=1, elapsed=1.0)
    assert json.loads(json.dumps(third.to_dict())) == {
        **dict(third),
        "running": 1,
        "percent": 33.33,
        "rate": 1.0,
        "eta": 2.0,
    }


def test_repr_shows_the_counts() -> None:
    """As the README shows them."""
    assert repr(HALF) == "Progress(total=10, complete=3, failed=1, cancelled=1, pending=5)"
