"""How much may go wrong before a batch has failed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from celery_flows.errors import InvalidSetting

#: How a tolerance of nothing is stored.
NOTHING: Final = ("0", "0%")


@dataclass(frozen=True)
class Tolerance:
    """A number of jobs, or a share of all jobs known, that may go wrong.

    Written and stored as "10" or "5%".
    """

    amount: float
    is_share: bool

    @classmethod
    def parse(cls, value: int | str) -> Tolerance:
        """Read what a user wrote.

        Args:
            value: a number of jobs (10, "10"), or a percentage of all jobs known ("5%", "2.5%").

        Raises:
            InvalidSetting: it is neither, is negative, or is more than 100 %.
        """
        text = str(value).strip()
        is_share = text.endswith("%")
        try:
            amount = float(text[:-1]) if is_share else int(text)
        except ValueError:
            raise cls._invalid(value) from None
        # No more than its column holds; and what is not a number is not between two either.
        if isinstance(value, bool) or not 0 <= amount <= (100 if is_share else 10**15):
            raise cls._invalid(value)
        return cls(amount, is_share)

    @staticmethod
    def _invalid(value: object) -> InvalidSetting:
        return InvalidSetting(
            name="tolerate", value=value, allowed='a number of jobs (10) or a percentage from "0%" to "100%"'
        )

    @property
    def is_none(self) -> bool:
        """Whether the first job that goes wrong decides."""
        return self.amount == 0

    def limit(self, total: int) -> int:
        """How many of `total` jobs may go wrong, rounded down."""
        # Exact: to floats, 0.57 % of 10,000 is a little less than 57.
        return int(Fraction(str(self.amount)) * total / 100) if self.is_share else int(self.amount)

    def __str__(self) -> str:
        return f"{self.amount:g}%" if self.is_share else f"{self.amount:d}"
