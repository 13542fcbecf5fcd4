"""What was read at one moment."""

from __future__ import annotations

from time import monotonic


class Snapshot:
    """The base of dataclasses for what was read, and may have changed since.

    When it was read is none of their fields.
    """

    _read_at: float

    def __post_init__(self) -> None:
        # They may be frozen.
        object.__setattr__(self, "_read_at", monotonic())

    @property
    def age(self) -> float:
        """Seconds since it was read."""
        return max(0.0, monotonic() - self._read_at)
