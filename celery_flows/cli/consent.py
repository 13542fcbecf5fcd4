"""Asking before something is destroyed."""

from __future__ import annotations

import sys

import click


def see_consent(question: str, *, yes: bool) -> None:
    """See that it is wanted: somebody said --yes, or says so now.

    Args:
        question: what is asked, without the question mark.

    Raises:
        UsageError: nobody is there to be asked.
        Abort: it is not wanted.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question}? Nobody is at a terminal to be asked: say --yes.")
    click.confirm(f"{question}?", abort=True, err=True, prompt_suffix=" ")
