"""Parts, by which large batches are counted."""

from __future__ import annotations

from django.db import migrations

from celery_flows.contrib.django.operations import Step


class Migration(migrations.Migration):
    """Adds what parts need."""

    dependencies = [("celery_flows", "0002_flows")]
    operations = [Step("0002", "0003")]
