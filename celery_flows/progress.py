"""How far a batch has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_KEYS: Final = ("total", "complete", "failed", "cancelled", "pending")


@dataclass(frozen=True, eq=False)
class Progress(Mapping[str, int]):
    """The counts of a batch at one moment: total = complete + failed + cancelled + pending.

    As a mapping it holds those five; the attributes below say more.
    """

    #: All jobs known, child batches counting one each.
    total: int
    #: Jobs that returned.
    complete: int
    #: Jobs that failed for good.
    failed: int
    #: Jobs that were revoked, expired, cancelled or skipped.
    cancelled: int
    #: Jobs that have not ended.
    pending: int
    #: Of the pending ones, those that a worker has claimed.
    running: int = 0
    #: Seconds from the start of the batch until this was read, or until it finished.
    elapsed: float = 0.0

    @property
    def finished(self) -> int:
        """Jobs that have ended, whatever the outcome."""
        return self.total - self.pending

    @property
    def percent(self) -> float:
        """Share of the jobs known that have ended, from 0 to 100; 100 of nothing."""
        return 100.0 * self.finished / self.total if self.total else 100.0

    @property
    def rate(self) -> float:
        """Jobs that ended per second since the batch started."""
        return self.finished / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until no job is pending, at the rate so far; None where nothing has ended yet."""
        if not self.pending:
            return 0.0
        return self.pending / self.rate if self.rate else None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, for a JSON response."""
        more = {"running": self.running, "percent": round(self.percent, 2), "rate": self.rate, "eta": self.eta}
        return {**self, **more}

    def __getitem__(self, key: str) -> int:
        if key not in _KEYS:
            raise KeyError(key)
        return int(getattr(self, key))

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def __len__(self) -> int:
        return len(_KEYS)

    def __repr__(self) -> str:
        return f"Progress({', '.join(f'{key}={self[key]}' for key in _KEYS)})"
