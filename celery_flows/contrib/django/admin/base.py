"""What the pages of our models have in common: nothing is changed there, and no whole table is counted."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from django.contrib import admin
from django.core.paginator import Paginator

#: How many rows of a list are counted at most, and so can be paged through; a search or a filter finds the rest.
MOST: Final = 10_000


class Many(int):
    """More than are counted."""

    def __str__(self) -> str:
        return f"more than {MOST:,}"


class BoundedPaginator(Paginator):
    """Pages through the first rows of a list, however many there are."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, of so many at most."""
        found = self.object_list.order_by()[: MOST + 1].count()
        return Many(MOST) if found > MOST else found


class ReadOnlyAdmin(admin.ModelAdmin):
    """Pages for looking at rows that are not the admin's to change."""

    paginator = BoundedPaginator
    show_full_result_count = False
    # They would count the whole table, for each value of each filter.
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50

    class Media:
        css = {"all": ["celery_flows/admin.css"]}

    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        """Nobody has."""
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def may(self, request: Any, what: str) -> bool:
        """Whether a user has one of the permissions of our own."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{what}_{self.opts.model_name}"))
