"""What a step of an actor comes by in the database: two steps that share nothing may as well change places."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_TABLE: Final = re.compile(r"\bflows_\w+")
_LOCK: Final = re.compile(r"\bFOR (UPDATE|SHARE|NO KEY UPDATE)\b|\bLOCK IN SHARE MODE\b")


@dataclass
class Footprint:
    """The tables of one step."""

    #: Where it looked.
    read: set[str] = field(default_factory=set)
    #: Where it wrote, or took locks, or gave them back.
    held: set[str] = field(default_factory=set)
    #: Where others see from here on what it wrote.
    shown: set[str] = field(default_factory=set)

    def meets(self, other: Footprint) -> bool:
        """Whether it may matter which of the two comes first.

        Under READ COMMITTED nobody sees, or waits for, a write that is not committed, unless to write or
        lock himself.
        """
        return bool(self.held & other.held or self.shown & other.read or other.shown & self.read)


class Footsteps:
    """Notes the footprints of one actor's steps."""

    def __init__(self) -> None:
        self._now = Footprint()
        self._written: set[str] = set()
        self._locked: set[str] = set()

    def begin(self) -> Footprint:
        """Begin a step."""
        self._now = Footprint()
        return self._now

    def alone(self, statement: str) -> None:
        """A statement that is a transaction of its own."""
        self.within(statement)
        self.commit()

    def within(self, statement: str) -> None:
        """A statement of a transaction."""
        tables = set(_TABLE.findall(statement.replace('"', "").replace("`", "")))
        self._now.read |= tables
        is_write = not statement.lstrip().startswith(("SELECT", "BEGIN", "PRAGMA", "SAVEPOINT"))
        if is_write:
            self._written |= tables
        if is_write or _LOCK.search(statement):
            self._now.held |= tables
            self._locked |= tables

    def commit(self) -> None:
        """What the transaction wrote is seen, and what it locked is free."""
        self._now.shown |= self._written
        self.roll_back()

    def roll_back(self) -> None:
        """What the transaction locked is free."""
        self._now.held |= self._locked
        self._written, self._locked = set(), set()
