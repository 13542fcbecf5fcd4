"""The page of workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from celery_flows.contrib.django.admin import shown
from celery_flows.contrib.django.admin.base import ReadOnlyAdmin
from celery_flows.contrib.django.models import FlowWorker


@admin.register(FlowWorker)
class FlowWorkerAdmin(ReadOnlyAdmin):
    """Workers' processes, and when each was last heard of."""

    list_display = ["hostname", "pid", "shown_age", "shown_heartbeat"]
    ordering = ["-heartbeat_at"]

    @admin.display(description="up for")
    def shown_age(self, worker: Any) -> str:
        """How long ago it started."""
        return shown.age(worker.started_at)

    @admin.display(description="last heard of", ordering="heartbeat_at")
    def shown_heartbeat(self, worker: Any) -> str:
        """How long ago it was heard of."""
        return f"{shown.age(worker.heartbeat_at)} ago"
