"""The command that looks whether everything that is needed is well, and says what to do where it is not."""

from __future__ import annotations

from celery_flows.cli.doctor.command import doctor

__all__ = ["doctor"]
