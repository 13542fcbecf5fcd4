"""What was read at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Something that was read, and may have changed since."""

    _read_at: float = field(default_factory=monotonic, init=False, compare=False, repr=False)

    @property
    def age(self) -> float:
        """Seconds since it was read."""
        return max(0.0, monotonic() - self._read_at)
