"""How far a batch has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery_flows.shown import html
from celery_flows.shown.snapshot import Snapshot
from celery_flows.shown.words import ago, counted, pretty, span

_KEYS: Final = ("total", "complete", "failed", "cancelled", "pending")

#: Characters of the bar at a prompt.
_WIDTH: Final = 20


@dataclass(frozen=True, eq=False)
class Progress(Snapshot, Mapping[str, int]):
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

    def counts(self) -> str:
        """The counts in words, but for those that are zero."""
        number = f"{self.complete:,} of {self.total:,} jobs complete" if self.total else "no jobs"
        return ", ".join([number, *counted(self, ("failed", "cancelled"))])

    def _pace(self) -> list[str]:
        """What a person asks next: what is left, how fast it goes, and how long it takes."""
        if not self.pending:
            return [f"took {span(self.elapsed)}"] if self.elapsed else []
        left = f"{self.pending:,} pending" + (f" ({self.running:,} running)" if self.running else "")
        rate = [f"{self.rate:.3g} jobs/s"] if self.rate else []
        return [left, *rate, *([] if self.eta is None else [f"{span(self.eta)} to go"])]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # IPython's signature
        full = int(_WIDTH * self.percent / 100)
        head = f"Progress {'█' * full}{'░' * (_WIDTH - full)} {self._share()}"
        pretty(printer, head, [self.counts(), *self._pace(), f"as of {ago(self.age)}"])

    def _share(self) -> str:
        # Rounded down: 100 % is for when nothing is left.
        return f"{int(self.percent)} %"

    def bar(self) -> str:
        """The bar, in HTML."""
        parts = {"complete": self.complete, "failed": self.failed, "cancelled": self.cancelled}
        return html.bar(parts | {"running": self.running}, self.total)

    def _repr_html_(self) -> str:
        said = html.facts(self._share(), self.counts(), *self._pace())
        return html.card(self.bar(), said, html.as_of(self.age))
