"""The first tables."""

from __future__ import annotations

from django.db import migrations, models

from celery_flows.contrib.django.operations import Step
from celery_flows.contrib.django.options import table

ID = models.CharField(max_length=255, primary_key=True, serialize=False)


class Migration(migrations.Migration):
    """Makes the tables; Django asks no more of models that it does not manage than their keys and options."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        Step("base", "0001"),
        migrations.CreateModel(
            "FlowBatch",
            [("id", ID.clone())],
            {
                "verbose_name": "batch",
                "verbose_name_plural": "batches",
                "db_table": table("batches"),
                "managed": False,
                "ordering": ["-id"],
                "default_permissions": ("view",),
                "permissions": [
                    ("cancel_flowbatch", "Can cancel batch"),
                    ("retry_flowbatch", "Can retry batch"),
                    ("explain_flowbatch", "Can explain batch"),
                ],
            },
        ),
        migrations.CreateModel(
            "FlowJob",
            [("id", ID.clone())],
            {
                "verbose_name": "job",
                "db_table": table("jobs"),
                "managed": False,
                "ordering": ["id"],
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            "FlowWorker",
            [("id", ID.clone())],
            {
                "verbose_name": "worker",
                "db_table": table("workers"),
                "managed": False,
                "ordering": ["id"],
                "default_permissions": ("view",),
            },
        ),
    ]
