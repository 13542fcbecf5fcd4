"""What a worker is pointed at: `celery -A make_celery worker`."""

from __future__ import annotations

from newsletter import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
