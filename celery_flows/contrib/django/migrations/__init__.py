"""One for each step of Alembic's (`celery_flows.migrations`), of the same number."""
