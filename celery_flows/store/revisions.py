"""The schema's revisions, as far as every process knows them, and what a migration may ask about its run.

Revisions are numbers, so that a process can tell an older schema from a newer one without Alembic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: The latest revision: what `upgrade` ends at.
HEAD: Final = "0003"

#: The latest `pre` revision: what this code can't do without.
REQUIRED: Final = "0003"


@dataclass(frozen=True)
class Names:
    """What the tables are called: prefix and schema are settings, so no migration writes a name out."""

    prefix: str = "flows_"
    schema: str | None = None

    def table(self, noun: str) -> str:
        """Name of a table, such as "flows_jobs" for "jobs"."""
        return f"{self.prefix}{noun}"

    @property
    def version(self) -> str:
        """Name of the table in which Alembic keeps the revision."""
        return self.table("version")


def names() -> Names:
    """The names that the running migration is about."""
    from alembic import context  # there while one runs; every other process does without

    found: Names = context.config.attributes["names"]
    return found
