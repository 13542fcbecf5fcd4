"""`manage.py flows ...`: the same commands as `celery -A project flows ...`."""

from __future__ import annotations

from argparse import REMAINDER
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from celery_flows.messaging.runtime import find_runtime

#: What manage.py itself reads, with the word that follows it.
_DJANGOS: Final = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """Hands everything over to the group of commands."""

    help = "Look after batches and flows, and their tables."
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Read no option here: they are the commands' own."""
        raise SystemExit(run(_without_djangos(argv[2:]), f"{argv[0]} {argv[1]}"))

    def add_arguments(self, parser: Any) -> None:
        """Take the words that `call_command` was given."""
        parser.add_argument("words", nargs=REMAINDER)

    def handle(self, *words: str, **options: Any) -> None:
        """Run a command.

        Raises:
            CommandError: it failed.
        """
        given = [*words, *options["words"]]
        code = run(given, "flows")
        if code:
            raise CommandError(f"flows {' '.join(given)} ended with {code}", returncode=code)


def run(words: list[str], name: str) -> int:
    """Run a command for the project's Celery app; return its exit code."""
    # The faces of the package don't know one another: it is found as Celery finds it.
    (found,) = entry_points(group="celery.commands", name="flows")
    try:
        found.load().main(words, prog_name=name, obj=SimpleNamespace(app=find_runtime().app))
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0


def _without_djangos(words: list[str]) -> list[str]:
    left, is_value = [], False
    for word in words:
        is_ours = not (is_value or word.startswith(tuple(f"{one}=" for one in _DJANGOS)) or word in _DJANGOS)
        is_value = word in _DJANGOS
        if is_ours:
            left.append(word)
    return left
