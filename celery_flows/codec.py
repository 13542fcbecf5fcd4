"""What is stored, as text: Celery's own JSON, and text that every database takes."""

from __future__ import annotations

from json import JSONDecoder
from typing import Any, Final, Protocol, runtime_checkable

from kombu.utils import json

#: Celery's own, made once: kombu makes one for each text, which takes as long as the text itself.
_ENCODER: Final = json.JSONEncoder()
_DECODER: Final = JSONDecoder(object_hook=json.object_hook)

#: What is put where a character can't be stored.
REPLACEMENT = "\ufffd"

#: How many characters a key has in the database at most.
LONGEST_KEY: Final = 255


#: What sealed text begins with. What does not is read as it is, so that a codec may be set on a database in use.
_MARK: Final = "celery-flows-sealed:"


@runtime_checkable
class Codec(Protocol):
    """Encrypts what users' data holds on its way into the database, and decrypts it on the way out."""

    def encode(self, text: str) -> str:
        """Make a text unreadable to others."""

    def decode(self, text: str) -> str:
        """Read what `encode` made, also under an older key."""

    def __hash__(self) -> int: ...


def seal(codec: Codec | None, text: str | None) -> str | None:
    """What is stored in place of a text."""
    return text if codec is None or text is None else _MARK + codec.encode(text)


def unseal(codec: Codec | None, stored: str | None) -> str | None:
    """The text behind what is stored."""
    if stored is None or codec is None or not is_sealed(stored):
        return stored
    return codec.decode(stored.removeprefix(_MARK))


def is_sealed(stored: str) -> bool:
    """Whether it takes a codec to read what is stored."""
    return stored.startswith(_MARK)


def encode(value: Any) -> str:
    """Write a value as JSON, with the types that Celery's own serializer knows (dates, decimals, UUIDs, bytes).

    The text is pure ASCII: what a database could choke on (NUL, lone surrogates) is escaped.

    Raises:
        TypeError: it holds something that JSON can't.
        ValueError: it holds itself.
    """
    return _ENCODER.encode(value)


def decode(text: str | None) -> Any:
    """Read what `encode` wrote; None stays None."""
    return None if text is None else _DECODER.decode(text)


def is_key(value: object) -> bool:
    """Whether every database takes this as a key as it is."""
    return isinstance(value, str) and len(value) <= LONGEST_KEY and safe_text(value) == value


def safe_text(value: object, limit: int | None = None) -> str:
    """Make text that every database stores: no NUL, no lone surrogate, at most `limit` characters."""
    text = str(value).replace("\x00", REPLACEMENT)
    text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
    return text if limit is None else text[:limit]
