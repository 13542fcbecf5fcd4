"""What can be done with batches: each by a permission of its own, by POST, and written into the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from celery_flows.contrib.django.admin import shown
from celery_flows.contrib.django.admin.base import ReadOnlyAdmin
from celery_flows.contrib.django.admin.confirming import CancelForm, ConfirmForm, RetryForm
from celery_flows.contrib.django.models import FlowBatch
from celery_flows.errors import FlowsError

#: Batches that are steered in one request at most: each takes some statements.
MOST: Final = 500

#: The field in which a form on a batch's own page says where it stands.
_FROM_PAGE: Final = "from_page"


class SteeringAdmin(ReadOnlyAdmin):
    """Pages of batches from which they are cancelled, run again and explained."""

    actions = ["cancel", "retry", "explain"]

    def has_cancel_permission(self, request: Any) -> bool:
        """Whether a user may cancel batches."""
        return self.may(request, "cancel")

    def has_retry_permission(self, request: Any) -> bool:
        """Whether a user may retry batches."""
        return self.may(request, "retry")

    def has_explain_permission(self, request: Any) -> bool:
        """Whether a user may ask why a batch is not finished."""
        return self.may(request, "explain")

    def render_change_form(self, request: Any, context: Any, *args: Any, obj: Any = None, **kwargs: Any) -> Any:
        """A batch's own page, with a button for each thing that this user may do with it."""
        context["flows_list"] = self._list()
        context["flows_buttons"] = [] if obj is None else self._buttons(request, obj)
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def _buttons(self, request: Any, batch: FlowBatch) -> list[str]:
        is_finished = batch.settled_at is not None
        found = {
            "cancel": not is_finished and self.has_cancel_permission(request),
            "retry": is_finished and self.has_retry_permission(request),
            "explain": self.has_explain_permission(request),
        }
        return [action for action, is_offered in found.items() if is_offered]

    @admin.action(description="Cancel selected batches", permissions=["cancel"])
    def cancel(self, request: Any, queryset: Any) -> Any:
        """End them early, if the user is sure."""
        return self._if_sure(request, queryset, "cancel", CancelForm)

    @admin.action(description="Retry what failed in selected batches", permissions=["retry"])
    def retry(self, request: Any, queryset: Any) -> Any:
        """Run them again in a new round, if the user is sure."""
        return self._if_sure(request, queryset, "retry", RetryForm)

    @admin.action(description="Explain why selected batches are not finished", permissions=["explain"])
    def explain(self, request: Any, queryset: Any) -> Any:
        """Say what they wait for."""
        batches = self._few(request, queryset)
        for batch in batches:
            said = format_html(
                '{}<pre class="flows-explanation">{}</pre>', shown.short(batch), batch.batch.explain()
            )
            self.message_user(request, said, messages.INFO)
            self.log_change(request, batch, "Explained.")
        return self._back(request, batches)

    def _if_sure(self, request: Any, queryset: Any, action: str, form_class: type[ConfirmForm]) -> Any:
        batches = self._few(request, queryset)
        form = form_class(request.POST if ConfirmForm.SURE in request.POST else None)
        if batches and not form.is_valid():
            return self._ask(request, action, form, batches)
        if batches:
            self._each(request, batches, form)
        return self._back(request, batches)

    def _ask(self, request: Any, action: str, form: ConfirmForm, batches: Sequence[FlowBatch]) -> TemplateResponse:
        shown.count_jobs(batches)
        came_from = self._page(request, batches)
        context = {
            **self.admin_site.each_context(request),
            "title": form.question,
            "opts": self.opts,
            "media": self.media,
            "action": action,
            "form": form,
            "batches": [
                (batch.pk, shown.short(batch), shown.state(batch.state), shown.progress(batch))
                for batch in batches
            ],
            "flows_list": self._list(),
            "from_page": came_from is not None,
            "back": came_from or request.get_full_path(),
        }
        return TemplateResponse(request, "admin/celery_flows/flowbatch/confirm.html", context)

    def _each(self, request: Any, batches: Sequence[FlowBatch], form: ConfirmForm) -> None:
        number = 0
        for batch in batches:
            try:
                said = form.act(batch)
            except FlowsError as error:
                self.message_user(request, f"{shown.short(batch)}: {error}", messages.ERROR)
                continue
            if said is None:
                self.message_user(request, f"{shown.short(batch)}: it had ended.", messages.WARNING)
                continue
            self.log_change(request, batch, said)
            number += 1
        if number:
            self.message_user(request, f"{form.done}: {number}.", messages.SUCCESS)

    def _few(self, request: Any, queryset: Any) -> list[FlowBatch]:
        batches = list(queryset[: MOST + 1])
        if len(batches) <= MOST:
            return batches
        self.message_user(request, f"Choose {MOST} batches at most; nothing was done.", messages.ERROR)
        return []

    def _back(self, request: Any, batches: Sequence[FlowBatch]) -> HttpResponseRedirect | None:
        page = self._page(request, batches)
        return None if page is None else HttpResponseRedirect(page)

    def _page(self, request: Any, batches: Sequence[FlowBatch]) -> str | None:
        """The batch's own page, if it was there that somebody pressed a button."""
        if _FROM_PAGE not in request.POST or len(batches) != 1:
            return None
        return reverse(f"{self.admin_site.name}:celery_flows_flowbatch_change", args=[batches[0].pk])

    def _list(self) -> str:
        return reverse(f"{self.admin_site.name}:celery_flows_flowbatch_changelist")
