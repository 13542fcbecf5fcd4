"""A chord on a header of 10,000: every member runs, and the body gets all results, without a result backend."""

from __future__ import annotations

from typing import Any

import pytest
from apps import flows_app, messages, notes_of, run_message, work
from celery import chord

from celery_flows import Batch

WIDTH = 10_000


@pytest.mark.timeout(600)
def test_a_chord_on_ten_thousand(server_url: str) -> None:
    """No message is longer than a plain call's, and the body is called once, with the results in their order."""
    with flows_app(server_url) as app:
        add, note = app.tasks["shop.add"], app.tasks["shop.note"]
        with (batch := Batch.create(app=app)).jobs():
            chord([add.s(number) for number in range(WIDTH)], note.s())()
        header = messages(app)
        assert len(header) == WIDTH
        assert max(len(message.body) for message in header) < 200
        for message in header:
            run_message(app, message)
        work(app)
        results: list[Any] = notes_of(app)
        assert results == [(list(range(WIDTH)),)]
        assert (batch.status, batch.progress.complete) == ("complete", WIDTH + 1)
