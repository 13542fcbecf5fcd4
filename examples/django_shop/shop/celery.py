"""The project's Celery app, which reads its settings from Django's."""

import os

from celery import Celery

from celery_flows import Flows

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
Flows(app)
