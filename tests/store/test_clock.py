"""A clock in the place of the database's own, on each of the three."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from scenes import age, batch_row, row, running_batch

from celery_flows.store.clock import Clock
from celery_flows.store.database import Database
from celery_flows.store.types import seconds_ago, utcnow
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.lease import renew
from celery_flows.transitions.recover import take_overdue


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def frozen(database_url: str, clock: Clock) -> Iterator[Database]:
    """A database that is judged by it, on each of the three."""
    database = Database(database_url, clock=clock)
    yield database
    database.close()


def shown(database: Database) -> tuple[datetime, datetime]:
    """What time the database says that it is, and was a minute ago."""
    with database.reading() as connection:
        now, ago = connection.execute(sa.select(utcnow(), seconds_ago(60))).one()
    return now, ago


def test_it_stands_still_until_it_is_moved(frozen: Database, clock: Clock) -> None:
    """Every statement is told the same moment, on connections that are open already too."""
    began = clock.now
    assert abs(began - datetime.now(UTC)) < timedelta(seconds=30)
    assert shown(frozen) == shown(frozen) == (began, began - timedelta(minutes=1))
    assert clock.advance(days=1, seconds=0.25) == began + timedelta(days=1, seconds=0.25)
    assert shown(frozen) == (clock.now, clock.now - timedelta(minutes=1))
    assert clock.moved == timedelta(days=1, seconds=0.25)


def test_rows_are_written_and_found_by_it(frozen: Database, clock: Clock) -> None:
    """In transactions and in single statements straight on the driver, a claim under a lease among them."""
    batch, [job, other] = running_batch(frozen, 2)
    assert (batch_row(frozen, batch).created_at, row(frozen, job).enrolled_at) == (clock.now, clock.now)
    clock.advance(minutes=5)
    holder = Holder("worker", 60.0, is_late=False, on_loss=None)
    assert claim(frozen, job, 1, "token", holder) is None
    renew(frozen, "worker", "host", 1, 60.0)
    assert claim(frozen, job, 1, "token", holder) == 1
    assert row(frozen, job).started_at == clock.now
    age(frozen, "publishing_since", [other], 60)
    assert take_overdue(frozen, 61, 10) == []
    clock.advance(seconds=1)
    assert [found.id for found in take_overdue(frozen, 61, 10)] == [other]


def test_after_a_rollback(frozen: Database, clock: Clock) -> None:
    """A transaction that is rolled back takes nothing of it along."""
    clock.advance(minutes=1)
    transaction = frozen.begin()
    assert transaction.connection.scalar(sa.select(utcnow())) == clock.now
    transaction.roll_back()
    assert shown(frozen)[0] == clock.now


def test_it_is_not_moved_back(clock: Clock) -> None:
    """What is there already would be in the future."""
    with pytest.raises(ValueError, match="advanced, not moved back"):
        clock.advance(seconds=-1)


def test_others_do_without(database: Database) -> None:
    """Without it the database's own clock is asked, by statements that know nothing of another."""
    statement = sa.select(utcnow(), seconds_ago(60)).compile(database.engine)
    assert "celery_flows" not in str(statement)
    assert abs(shown(database)[0] - datetime.now(UTC)) < timedelta(seconds=30)
