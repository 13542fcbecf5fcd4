"""The demo's input: the files under a folder, and how to count them without us."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path


class Unsuitable(Exception):
    """There is nothing to work on."""


@dataclass(frozen=True)
class Folder:
    """A folder that has files in it or below it. Paths are written from the top, as `find .` does."""

    path: Path
    name: str
    files: tuple[str, ...]
    folders: tuple[Folder, ...]
    skip: frozenset[str] = frozenset()

    def walk(self) -> Iterator[Folder]:
        """This folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()

    @property
    def every_file(self) -> list[str]:
        """All files in it and below it."""
        return [file for folder in self.walk() for file in folder.files]

    @property
    def count(self) -> int:
        """How many files there are, in it and below it."""
        return len(self.every_file)

    def in_shell(self) -> list[str]:
        """Commands that count and hash the same files."""
        prune = "".join(f"-name {shlex.quote(name)} -prune -o " for name in sorted(self.skip))
        find = f"cd {shlex.quote(str(self.path))} && find . {prune}-type f -print0"
        return [
            f"({find}) | tr -dc '\\0' | wc -c",
            f"({find} | xargs -0 cat) | wc -l -c",
            f"({find} | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum",
        ]


def list_files(path: Path, skip: Collection[str] = ()) -> Folder:
    """Find the ordinary files under a folder; symbolic links are not followed.

    Args:
        skip: names of folders to leave out.

    Raises:
        Unsuitable: it is missing, empty, or can't be read.
    """
    if not path.is_dir():
        raise Unsuitable(f"{path} is not a folder." if path.exists() else f"There is no folder {path}.")
    try:
        folder = _list(path.resolve(), ".", frozenset(skip))
    except OSError as error:
        raise Unsuitable(f"{error.filename} can't be read: {error.strerror}.") from error
    if folder.count == 0:
        raise Unsuitable(f"There are no files under {path}.")
    return folder


def _list(top: Path, name: str, skip: frozenset[str]) -> Folder:
    entries = sorted(os.scandir(top / name), key=lambda entry: os.fsencode(entry.name))
    files = tuple(f"{name}/{entry.name}" for entry in entries if entry.is_file(follow_symlinks=False))
    below = (
        _list(top, f"{name}/{entry.name}", skip)
        for entry in entries
        if entry.is_dir(follow_symlinks=False) and entry.name not in skip
    )
    return Folder(top, name, files, tuple(folder for folder in below if folder.files or folder.folders), skip)
