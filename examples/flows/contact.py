"""A sequence: what happens to a message from a contact form."""

from __future__ import annotations

import json
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from work import app

from celery_flows import Batch, Sequence, current_job, step

#: Who answers what.
COLLEAGUES = {"order": "ada@example.org", "invoice": "grace@example.org"}


def data() -> Any:
    """What the steps of this run share."""
    return current_job().data


@app.task
def keep_message() -> None:
    """Write the message down, so that nothing of it is lost."""
    form = data()
    folder = Path(form["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    form["file"] = f"{form['number']}.json"
    (folder / form["file"]).write_text(json.dumps({"from": form["sender"], "text": form["text"]}))


@app.task
def assign_message() -> None:
    """Find who answers it."""
    words = data()["text"].lower().split()
    data()["colleague"] = next((COLLEAGUES[word] for word in words if word in COLLEAGUES), "hello@example.org")


class ContactForm(Sequence):
    """Keep it, assign it, and tell both sides."""

    create = step(keep_message)
    assign = step(assign_message)

    @step(retries=3)
    def forward(self) -> None:
        """Put it into the colleague's inbox."""
        self.mail(self.data["colleague"], f"{self.data['sender']} wrote", self.data["text"])

    @step
    def thank(self) -> None:
        """Answer the sender."""
        if "@" not in self.data["sender"]:
            raise ValueError(f"{self.data['sender']} is no address")
        self.mail(self.data["sender"], "Thank you", f"{self.data['colleague']} will write to you.")

    def on_failure(self, batch: Batch) -> None:
        """Say what is left to be done by hand."""
        self.data["problem"] = batch.failed_jobs[0].error_message

    def mail(self, to: str, subject: str, text: str) -> None:
        """Put a mail into a folder: an example sends none."""
        mail = EmailMessage()
        mail["To"], mail["Subject"] = to, subject
        mail.set_content(text)
        Path(self.data["folder"], f"{self.data['number']}-{to}.eml").write_bytes(bytes(mail))
