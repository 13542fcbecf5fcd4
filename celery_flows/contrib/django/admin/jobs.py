"""The pages of jobs."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html
from django.utils.text import Truncator

from celery_flows.contrib.django.admin import shown
from celery_flows.contrib.django.admin.base import ReadOnlyAdmin
from celery_flows.contrib.django.models import FlowJob
from celery_flows.messaging.runtime import find_runtime

_TIMES: Final = ("enrolled_at", "queued_at", "started_at", "ended_at", "expires_at")


@admin.register(FlowJob)
class FlowJobAdmin(ReadOnlyAdmin):
    """Jobs, and what else has a row among them; arguments and errors are hidden as the setting redact says."""

    list_display = ["title", "short_arguments", "shown_state", "kind", "attempts", "short_error", "shown_age"]
    list_filter = ["state", "kind"]
    search_fields = ["id"]
    search_help_text = "The id of a job or a batch, or the whole name of a task"
    ordering = ["-id"]
    fieldsets = [
        (None, {"fields": ["id", ("task", "name"), ("kind", "event", "shown_state"), "where"]}),
        ("Call", {"fields": ["arguments", "queue"]}),
        ("Runs", {"fields": [("attempts", "losses", "shown_worker"), "error"]}),
        ("Times", {"fields": [_TIMES[:3], _TIMES[3:], "round"]}),
    ]

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Find what is written out: a beginning, or a part, would have to be looked for in every row."""
        term = search_term.strip()
        if not term:
            return queryset, False
        # Ids have indexes, tasks have none: asked for together, every row would be looked at.
        by_id = queryset.filter(Q(id=term) | Q(batch=term))
        return (by_id if by_id.order_by().exists() else queryset.filter(task=term)), False

    @admin.display(description="job", ordering="id")
    def title(self, job: FlowJob) -> str:
        """What runs."""
        return f"{job.name} ({job.task})" if job.name else job.task or str(job.kind)

    @admin.display(description="state")
    def shown_state(self, job: FlowJob) -> Any:
        """The state."""
        return shown.state(job.state)

    @admin.display(description="enrolled", ordering="id")
    def shown_age(self, job: FlowJob) -> str:
        """How long ago it was enrolled."""
        return shown.age(job.enrolled_at)

    @admin.display(description="error")
    def short_error(self, job: FlowJob) -> str:
        """The class of the error."""
        return job.error_class or "-"

    @admin.display(description="error")
    def error(self, job: FlowJob) -> Any:
        """The error, as it may be shown."""
        message, redact = job.error_message, find_runtime().redact
        if message is None and job.error_class is None:
            return "-"
        if message is not None and redact is not None and redact.error is not None:
            message = redact.error(job.task, message)
        return format_html('<pre class="flows-error">{}: {}</pre>', job.error_class or "", message or "")

    @admin.display(description="arguments")
    def arguments(self, job: FlowJob) -> Any:
        """The arguments, as they may be shown."""
        return format_html("<code>{}</code>", _arguments(job))

    @admin.display(description="arguments")
    def short_arguments(self, job: FlowJob) -> Any:
        """How the arguments begin."""
        return format_html("<code>{}</code>", Truncator(_arguments(job)).chars(60))

    @admin.display(description="where")
    def where(self, job: FlowJob) -> Any:
        """The batch that it is of, that it announces, or that it stands for."""
        if job.kind == "batch":
            return shown.page("flowbatch", job.id, f"the batch {job.id}")
        said = f"a job of {job.batch_id}" if job.batch_id else f"announces {job.announces_id}"
        return shown.page("flowbatch", job.batch_id or job.announces_id, said)

    @admin.display(description="worker")
    def shown_worker(self, job: FlowJob) -> str:
        """The process that runs it, or ran it."""
        return job.worker_id or "-"


def _arguments(job: FlowJob) -> str:
    args, kwargs, redact = job.args or [], job.kwargs or {}, find_runtime().redact
    if redact is not None and redact.arguments is not None:
        args, kwargs = redact.arguments(job.task, args, kwargs)
    words = [_written(arg) for arg in args] + [f"{name}={_written(arg)}" for name, arg in kwargs.items()]
    return f"({', '.join(words)})"


def _written(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
