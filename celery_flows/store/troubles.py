"""What a database's error says to people."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.exc import DBAPIError


class Trouble(NamedTuple):
    """Something that went wrong with the database."""

    #: What the driver said.
    words: str
    #: Whether there was no connection, or it was lost, rather than that a statement was refused.
    is_unreachable: bool


def trouble(error: BaseException) -> Trouble | None:
    """Read an error as trouble with the database; None where it is another."""
    if not isinstance(error, DBAPIError):
        return None
    # MySQL's drivers say a number first; who connects has not come to a statement yet.
    parts = error.orig.args if error.orig is not None else ()
    words = parts[1] if len(parts) > 1 and isinstance(parts[0], int) else error.orig
    return Trouble(str(words), error.connection_invalidated or error.statement is None)
