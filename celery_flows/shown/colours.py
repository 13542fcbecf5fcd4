"""The colour of each state, one for light grounds and dark ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: By state. On white and on near-black each stands out by 3:1 at least, as text and lines must.
COLOURS: Final[Mapping[str, str]] = {
    "complete": "#2b9a57",
    "failed": "#dd4a42",
    "cancelled": "#a2742c",
    "skipped": "#7f858e",
    "running": "#2f83d8",
    "retrying": "#b97a10",
    "queued": "#6d86a8",
    "ready": "#6d86a8",
    "waiting": "#7f858e",
    "pending": "#7f858e",
}

#: What has no state.
PLAIN: Final = "#7f858e"


def colour_of(state: str | None) -> str:
    """The colour of a state."""
    return COLOURS.get(state or "", PLAIN)
