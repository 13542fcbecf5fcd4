"""Measuring a file, and adding up what was measured."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Measure:
    """What is known of one file."""

    path: str
    bytes: int
    lines: int
    sha256: str


@dataclass(frozen=True)
class Totals:
    """What is known of many."""

    files: int
    bytes: int
    lines: int
    #: Of the lines that `sha256sum` prints for all files, sorted by path.
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def measure_file(top: str, path: str) -> Measure:
    """Read a file once: count its bytes and lines, and hash it.

    Args:
        top: the folder from which the path is written.
    """
    digest, size, lines = hashlib.sha256(), 0, 0
    with Path(top, path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            lines += chunk.count(b"\n")
    return Measure(path, size, lines, digest.hexdigest())


def add_up(measures: Iterable[Measure]) -> Totals:
    """Add up what was measured."""
    known = sorted(measures, key=lambda measure: os.fsencode(measure.path))
    listing = b"".join(_checksum_line(measure) for measure in known)
    return Totals(
        files=len(known),
        bytes=sum(measure.bytes for measure in known),
        lines=sum(measure.lines for measure in known),
        sha256=hashlib.sha256(listing).hexdigest(),
    )


def _checksum_line(measure: Measure) -> bytes:
    """A line as `sha256sum` prints it, which marks names that hold a line's end or a backslash."""
    name = os.fsencode(measure.path)
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return mark + measure.sha256.encode() + b"  " + escaped + b"\n"
