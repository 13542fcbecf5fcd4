"""The schema's history, for Alembic: one file per step in `versions/`.

A step is named `pre` or `post`. A `pre` step is made before the code that needs it is deployed, and the
code before it goes on working; a `post` step is made when no process runs the older code any more.
After adding one, write its number into `celery_flows.store.revisions`, where `names()` is too.
"""
