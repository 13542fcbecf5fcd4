"""`manage.py flows ...` is `celery -A project flows ...`."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from django.core.management import CommandError, ManagementUtility, call_command
from locks import on_sqlite

from celery_flows import Batch
from celery_flows.store import schema

pytestmark = on_sqlite


def manage(capfd: Any, *words: str) -> tuple[int, str, str]:
    """Run `manage.py flows ...`: how it ended, and what it said."""
    with pytest.raises(SystemExit) as ended:
        ManagementUtility(["manage.py", "flows", *words]).execute()
    return int(ended.value.code or 0), *capfd.readouterr()


def test_the_same_commands(app: Celery, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands work on the project's database, with their own options and exit codes."""
    batch = Batch.create(app=app)
    code, out, _ = manage(capfd, "explain", batch.id)
    assert (code, batch.id in out) == (0, True)
    assert manage(capfd, "current")[1] == f"{schema.head()} (the latest)\n"
    # What manage.py does with it is not to be seen by others.
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "ignored")
    assert manage(capfd, "prune", "--yes", "--older-than", "1d", "--settings", "ignored") == (
        0,
        "Batches pruned: 0\n",
        "",
    )
    assert manage(capfd, "explain", "nobody")[0] == 3
    code, out, _ = manage(capfd, "list", "--state", "pending")
    assert (code, batch.id in out) == (0, True)
    assert manage(capfd, "cancel", batch.id[:18], "--yes")[0] == 0
    assert manage(capfd, "watch", batch.id)[0] == 5
    code, _, err = manage(capfd, "nonsense")
    assert (code, "manage.py flows" in err) == (2, True)
    assert "reconcile" in manage(capfd, "--help")[1]


def test_called_from_code(app: Celery, capfd: Any) -> None:
    """call_command takes the same words, and raises where the command fails."""
    call_command("flows", "check")
    call_command("flows", "prune", "--yes", "--older-than", "1d")
    said = capfd.readouterr().out
    assert ("The tables fit" in said, "Batches pruned: 0" in said) == (True, True)
    with pytest.raises(CommandError, match=r"flows explain nobody ended with 3"):
        call_command("flows", "explain", "nobody")
