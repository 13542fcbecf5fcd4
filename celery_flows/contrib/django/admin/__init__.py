"""Batches, jobs and workers in Django's admin."""

from celery_flows.contrib.django.admin.batches import FlowBatchAdmin
from celery_flows.contrib.django.admin.jobs import FlowJobAdmin
from celery_flows.contrib.django.admin.workers import FlowWorkerAdmin

__all__ = ["FlowBatchAdmin", "FlowJobAdmin", "FlowWorkerAdmin"]
