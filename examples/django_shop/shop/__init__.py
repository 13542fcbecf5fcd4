"""The project. Django imports it first, and so the Celery app is there before anybody asks for it."""

from shop.celery import app as celery_app

__all__ = ["celery_app"]
