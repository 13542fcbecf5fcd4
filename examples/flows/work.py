"""The app of all four: `celery -A work worker`."""

from __future__ import annotations

from celery import Celery

from celery_flows import Flows

app = Celery("work", broker="redis://localhost/0", include=["contact", "sales", "gallery", "bottling"])
flows = Flows(app, database_url="sqlite:///flows.sqlite3")
