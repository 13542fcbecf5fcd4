"""Jobs that wait for one another, their results and data, and batches by key."""

from __future__ import annotations

from django.db import migrations

from celery_flows.contrib.django.operations import Step


class Migration(migrations.Migration):
    """Adds what flows need."""

    dependencies = [("celery_flows", "0001_first_tables")]
    operations = [Step("0001", "0002")]
