"""What a project has rows of itself."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order, and the batch that was started for it."""

    number = models.IntegerField()
    batch_id = models.CharField(max_length=36, null=True)
    paid = models.JSONField(null=True)

    class Meta:
        app_label = "orders"
