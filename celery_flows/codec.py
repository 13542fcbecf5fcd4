"""What is stored, as text: Celery's own JSON, and text that every database takes."""

from __future__ import annotations

from typing import Any

from kombu.utils import json

#: What is put where a character can't be stored.
REPLACEMENT = "\ufffd"


def encode(value: Any) -> str:
    """Write a value as JSON, with the types that Celery's own serializer knows (dates, decimals, UUIDs, bytes).

    The text is pure ASCII: what a database could choke on (NUL, lone surrogates) is escaped.

    Raises:
        TypeError: it holds something that JSON can't.
        ValueError: it holds itself.
    """
    return str(json.dumps(value))


def decode(text: str | None) -> Any:
    """Read what `encode` wrote; None stays None."""
    return None if text is None else json.loads(text)


def safe_text(value: object, limit: int | None = None) -> str:
    """Make text that every database stores: no NUL, no lone surrogate, at most `limit` characters."""
    text = str(value).replace("\x00", REPLACEMENT)
    text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
    return text if limit is None else text[:limit]
