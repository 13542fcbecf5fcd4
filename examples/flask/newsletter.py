"""A newsletter in Flask: one job per subscriber, enrolled in the request's own transaction."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, Task, shared_task
from flask import Flask, current_app, jsonify, request, url_for
from sqlalchemy import create_engine, text

from celery_flows import Batch, BatchNotFound, Flows, current_job

DATABASE_URL = os.environ.get("CELERY_FLOWS_DATABASE_URL", "postgresql+psycopg://localhost/newsletter")
SUBSCRIBERS = [f"reader{number}@example.org" for number in range(25)]

TABLE = "CREATE TABLE IF NOT EXISTS newsletters (batch_id VARCHAR(36), subject TEXT CHECK (subject <> ''))"

engine = create_engine(DATABASE_URL)


def create_celery(app: Flask) -> Celery:
    """Make the Celery app, whose tasks run inside Flask's application context."""

    class ContextTask(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery = Celery(app.name, task_cls=ContextTask)
    celery.config_from_object(app.config["CELERY"])
    celery.set_default()
    app.extensions["celery"] = celery
    Flows(celery, database_url=DATABASE_URL)
    return celery


def create_app() -> Flask:
    """Make the Flask app."""
    app = Flask("newsletter")
    app.config["CELERY"] = {"broker_url": "redis://localhost/0", "task_ignore_result": True}
    app.config["OUTBOX"] = os.environ.get("OUTBOX", "outbox")
    create_celery(app)
    app.post("/newsletters")(publish)
    app.get("/newsletters/<batch_id>")(show)
    return app


def publish() -> Any:
    """Enroll the mails and save the newsletter: both, or neither, as when the subject is empty."""
    body = request.get_json()
    with engine.begin() as connection:
        connection.execute(text(TABLE))
        batch = Batch.create(description=body["subject"], connection=connection)
        batch.on("settled", file_report, connection=connection)
        with batch.jobs(connection=connection):
            for address in SUBSCRIBERS:
                send_mail.delay(address, body["subject"])
        connection.execute(text("INSERT INTO newsletters VALUES (:id, :subject)"), {"id": batch.id, **body})
    return jsonify(id=batch.id, progress=url_for("show", batch_id=batch.id)), 202


def show(batch_id: str) -> Any:
    """How far it has come."""
    try:
        batch = Batch.get(batch_id)
    except BatchNotFound:
        return jsonify(error="there is no such newsletter"), 404
    return jsonify(subject=batch.description, status=batch.status, **batch.progress.to_dict())


@shared_task
def send_mail(address: str, subject: str) -> None:
    """Put one mail into the outbox; `current_app` works here, as the task runs in Flask's context."""
    Path(current_app.config["OUTBOX"], address).write_text(subject)


@shared_task
def file_report(batch_id: str) -> None:
    """The callback, in the same context."""
    progress = current_job().batch.progress
    Path(current_app.config["OUTBOX"], "report.txt").write_text(f"{progress.complete} of {progress.total} sent")
