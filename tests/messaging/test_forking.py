"""A process that is forked while another thread of it publishes."""

from __future__ import annotations

import os
import threading
from typing import Any

from apps import flows_app
from locks import wait_until

from celery_flows import Batch
from celery_flows.messaging.template import Patterns


def test_a_fork_waits_for_what_is_being_published(file_url: str, monkeypatch: Any) -> None:
    """The client of the broker has locks, and nobody would give them back in the child."""
    began, order = threading.Event(), list[str]()
    own = Patterns.publish

    def publish(self: Patterns, *args: Any) -> None:
        began.set()
        # Until the fork is asked for, and longer than one takes that does not wait.
        forks.wait(5)
        threading.Event().wait(0.2)
        own(self, *args)
        order.append("published")

    forks = threading.Event()
    monkeypatch.setattr(Patterns, "publish", publish)
    with flows_app(file_url) as app:

        def enroll() -> None:
            with Batch.create(app=app).jobs():
                app.tasks["shop.note"].delay("word")

        thread = threading.Thread(target=enroll)
        thread.start()
        assert began.wait(5)
        forks.set()
        child = os.fork()
        if not child:
            os._exit(0)
        order.append("forked")
        os.waitpid(child, 0)
        thread.join(10)
        wait_until(lambda: len(order) == 2, "both")
    assert order == ["published", "forked"]
