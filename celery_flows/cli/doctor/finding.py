"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How something is."""

    OK = "ok"
    #: It works, and may not go on so.
    WARNING = "warning"
    #: Something does not work.
    WRONG = "wrong"
    #: Nobody looked.
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Finding:
    """One thing that a check says."""

    #: What was looked at, in a word.
    check: str
    verdict: Verdict
    #: How it is.
    fact: str
    #: What to do.
    remedy: str | None = None


def ok(check: str, fact: str) -> Finding:
    """It is well."""
    return Finding(check, Verdict.OK, fact)


def warning(check: str, fact: str, remedy: str) -> Finding:
    """It works, and may not go on so."""
    return Finding(check, Verdict.WARNING, fact, remedy)


def wrong(check: str, fact: str, remedy: str | None = None) -> Finding:
    """It does not work; an error of ours says itself what to do."""
    return Finding(check, Verdict.WRONG, fact, remedy)


def left_out(check: str, why: str) -> Finding:
    """Nobody looked."""
    return Finding(check, Verdict.LEFT_OUT, why)
