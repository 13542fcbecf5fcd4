"""A column of ours, as Django's models read it."""

from __future__ import annotations

from typing import Any

from django.db import models

from celery_flows.codec import decode, is_sealed, unseal
from celery_flows.messaging.runtime import find_runtime


class StoredText(models.TextField):
    """Text that may be encrypted by the app's codec."""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        """What it says."""
        return unseal(find_runtime().codec, value) if value is not None and is_sealed(value) else value


class StoredJson(StoredText):
    """JSON that is stored as text."""

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        """What it means."""
        return decode(super().from_db_value(value, expression, connection))
