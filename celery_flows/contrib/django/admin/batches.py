"""The pages of batches."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q
from django.utils.html import format_html

from celery_flows.contrib.django.admin import shown
from celery_flows.contrib.django.admin.steering import SteeringAdmin
from celery_flows.contrib.django.models import FlowBatch

#: Jobs that are pending at most in a batch that is explained unasked: what is said takes a look at each.
EXPLAINED: Final = 50_000


class BatchList(ChangeList):
    """A page of batches, whose jobs are counted in one query."""

    def get_results(self, request: Any) -> None:
        """Read the page, and count."""
        super().get_results(request)
        found: Any = self.result_list  # type: ignore[has-type] # Django's
        self.result_list = list(found)
        shown.count_jobs(self.result_list)


@admin.register(FlowBatch)
class FlowBatchAdmin(SteeringAdmin):
    """Batches: how far each has come, what is in it, and cancel, retry and explain."""

    list_display = ["title", "shown_state", "shown_progress", "kind", "shown_tags", "shown_age"]
    list_filter = ["state", "kind", "created_at"]
    search_fields = ["id", "description", "key"]
    search_help_text = "The beginning of an id, a key, or words of a description"
    ordering = ["-id"]
    fieldsets = [
        (None, {"fields": ["id", "description", ("kind", "shown_state"), "shown_progress", "inside"]}),
        ("Why it is not finished", {"fields": ["explanation"]}),
        ("Times", {"fields": [("created_at", "started_at", "completed_at", "settled_at"), "round"]}),
        ("As it was made", {"fields": [("shown_parent", "flow"), ("key", "shown_tags")]}),
        ("As it is run", {"fields": [("tolerate", "on_loss"), "shown_context"]}),
    ]

    def get_changelist(self, request: Any, **kwargs: Any) -> type[ChangeList]:
        """The list that counts."""
        return BatchList

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Find ids by their beginning, in words that an index serves; and keys and descriptions."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = Q(id__gte=term, id__lt=term + "g") | Q(key=term) | Q(description__icontains=term)
        return queryset.filter(found), False

    def get_fieldsets(self, request: Any, obj: Any = None) -> Any:
        """Leave the explanation to those who may ask for it, of batches that have one."""
        is_asked = obj is not None and obj.settled_at is None and self.has_explain_permission(request)
        every: Any = self.fieldsets
        return [one for one in every if is_asked or "explanation" not in one[1]["fields"]]

    @admin.display(description="batch", ordering="id")
    def title(self, batch: FlowBatch) -> str:
        """What people should read, or the id."""
        return shown.short(batch)

    @admin.display(description="state", ordering="state")
    def shown_state(self, batch: FlowBatch) -> Any:
        """The state, and whether jobs are left all the same."""
        is_left = batch.completed_at is not None and batch.settled_at is None
        return format_html("{}{}", shown.state(batch.state), " (unfinished)" if is_left else "")

    @admin.display(description="progress")
    def shown_progress(self, batch: FlowBatch) -> Any:
        """The bar."""
        return shown.progress(batch)

    @admin.display(description="tags")
    def shown_tags(self, batch: FlowBatch) -> str:
        """The tags."""
        return shown.short(", ".join(batch.tags or []) or "-")

    @admin.display(description="context")
    def shown_context(self, batch: FlowBatch) -> Any:
        """What the batch was given, as JSON."""
        return format_html("<pre>{}</pre>", json.dumps(batch.context, indent=2, ensure_ascii=False, default=str))

    @admin.display(description="age", ordering="id")
    def shown_age(self, batch: FlowBatch) -> str:
        """How long ago it was made."""
        return shown.age(batch.created_at)

    @admin.display(description="child of")
    def shown_parent(self, batch: FlowBatch) -> Any:
        """The batch above."""
        return shown.page("flowbatch", batch.parent_id, str(batch.parent_id))

    @admin.display(description="inside")
    def inside(self, batch: FlowBatch) -> Any:
        """Where to go from here."""
        mine = {"batch__id__exact": batch.id}
        return shown.links(
            ("jobs", "flowjob", mine),
            ("failed", "flowjob", {**mine, "outcome__exact": "failed"}),
            ("pending", "flowjob", {**mine, "outcome__isnull": "1"}),
            ("children", "flowbatch", {"parent__id__exact": batch.id}),
            ("callbacks", "flowjob", {"announces__id__exact": batch.id}),
        )

    @admin.display(description="it waits for")
    def explanation(self, batch: FlowBatch) -> Any:
        """Why it is not finished; where that takes time, whoever wants to know presses the button."""
        pending = shown.counts_of(batch)[None]
        if pending > EXPLAINED:
            return f"{pending:,} jobs. Explain says more, and looks at all of them."
        return format_html('<pre class="flows-explanation">{}</pre>', str(batch.batch.explain()))
