"""A PostgreSQL server of the run's own, which it may restart."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Final

#: Where distributions put the server's programs, which are not on the path.
_PLACES: Final = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")

#: A server restarted without waiting for the disk loses nothing: only its processes die, not the machine.
_OPTIONS: Final = "-F -h 127.0.0.1 -p {port} -k '' -c max_connections=100"


class OwnPostgres:
    """A throw-away cluster."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self._programs, self._folder, self._port = programs, folder, port
        # The server refuses to be root.
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    @property
    def url(self) -> str:
        """Its one database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"

    def make(self) -> None:
        """Make the cluster and start it."""
        if self._user:
            shutil.chown(self._folder, "postgres")
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres")
        self._run("pg_ctl", "start", "--wait", f"--log={self._folder / 'log'}", f"--options={self._options}")

    def restart(self, how: str) -> None:
        """Stop it and start it again.

        Args:
            how: "fast" ends all sessions; "immediate" is a crash, after which it recovers.
        """
        log = f"--log={self._folder / 'log'}"
        self._run("pg_ctl", "restart", "--wait", f"--mode={how}", log, f"--options={self._options}")

    def stop(self) -> None:
        """Stop it for good."""
        self._run("pg_ctl", "stop", "--mode=immediate")

    @property
    def _options(self) -> str:
        return _OPTIONS.format(port=self._port)

    def _run(self, program: str, *words: str) -> None:
        # What it starts must not hold a pipe of ours open.
        with TemporaryFile("w+") as file:
            command = [*self._user, str(self._programs / program), f"--pgdata={self._folder / 'data'}", *words]
            done = subprocess.run(command, stdout=file, stderr=file, cwd="/", check=False, timeout=60)
            file.seek(0)
            assert done.returncode == 0, file.read()


@contextmanager
def own_postgres() -> Iterator[OwnPostgres | None]:
    """A server of the newest release that is installed, with our own data; None where there is none."""
    programs = _find_programs()
    if programs is None:
        yield None
        return
    # Not in a folder of pytest's, which keeps other users out.
    with TemporaryDirectory(prefix="flows-chaos-") as folder:
        server = OwnPostgres(programs, Path(folder), _free_port())
        server.make()
        try:
            yield server
        finally:
            server.stop()


def _find_programs() -> Path | None:
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return None
    found = [path.parent for place in _PLACES for path in Path("/").glob(f"{place[1:]}*/**/bin/initdb")]
    on_path = shutil.which("initdb")
    return max(found, key=_release, default=None) or (Path(on_path).parent if on_path else None)


def _release(programs: Path) -> int:
    return max(map(int, re.findall(r"\d+", str(programs))), default=0)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
