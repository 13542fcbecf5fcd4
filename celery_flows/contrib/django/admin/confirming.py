"""What is asked before batches are cancelled or run again, and what is done then."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django import forms

from celery_flows.contrib.django.models import FlowBatch
from celery_flows.transitions.reopen import Mode

_MODES: Final = {
    Mode.FAILED_AND_DOWNSTREAM: "what failed, was cancelled or expired, and what was skipped or came after it",
    Mode.FAILED: "only what failed, was cancelled or expired",
    Mode.ALL: "everything, also what is complete",
}


class ConfirmForm(forms.Form):
    """A question, with the choices that there are."""

    #: The field that says that somebody has seen the question.
    SURE: Final = "sure"

    question: ClassVar[str]
    #: What is said afterwards, before the number of batches.
    done: ClassVar[str]

    def act(self, batch: FlowBatch) -> str | None:
        """Do it to a batch.

        Returns:
            What the history is to say; None if there was nothing to do.
        """
        raise NotImplementedError


class CancelForm(ConfirmForm):
    """Whether to cancel."""

    question = "Cancel these batches?"
    done = "Cancelled"

    terminate: Any = forms.BooleanField(
        required=False, label="Also end the jobs that run now", help_text="Otherwise they may finish."
    )

    def act(self, batch: FlowBatch) -> str | None:
        """End it early, unless it has ended."""
        if batch.settled_at is not None:
            return None
        terminate = bool(self.cleaned_data["terminate"])
        batch.batch.cancel(terminate=terminate)
        return "Cancelled, with the jobs that ran." if terminate else "Cancelled."


class RetryForm(ConfirmForm):
    """What to run again."""

    question = "Run these batches again?"
    done = "Retried"

    mode: Any = forms.ChoiceField(
        label="Run again",
        choices=[(str(mode), said) for mode, said in _MODES.items()],
        initial=str(Mode.FAILED_AND_DOWNSTREAM),
        widget=forms.RadioSelect,
    )

    def act(self, batch: FlowBatch) -> str | None:
        """Open a new round."""
        mode = self.cleaned_data["mode"]
        batch.batch.retry(mode)
        return f"Retried ({mode})."
