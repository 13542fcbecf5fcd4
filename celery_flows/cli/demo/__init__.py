"""The demo: a batch of one job per file, nested by folder, from enrolment to a manifest that can be checked."""

from __future__ import annotations

from celery_flows.cli.demo.command import demo

__all__ = ["demo"]
