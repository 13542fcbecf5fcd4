"""The reference names everything that there is: every command with its options, every setting."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from projects import ROOT

from celery_flows.cli import flows, main
from celery_flows.settings import names

REFERENCE = ROOT / "docs/reference"


def sections(page: Path) -> dict[str, str]:
    """A page's text under each of its headings that is a name."""
    parts = re.split(r"^## `(\w+)`$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands() -> dict[str, click.Command]:
    """The commands of both groups."""
    found = {}
    for group in (flows, main):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found[name] = command
    return found


def test_every_command_has_its_heading() -> None:
    """And no heading is of a command that is gone."""
    assert sorted(sections(REFERENCE / "cli.md")) == sorted(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_named_under_its_command(name: str) -> None:
    """All but those that every command has; and each says in its help what it does."""
    section = sections(REFERENCE / "cli.md")[name]
    options = [one for one in commands()[name].params if isinstance(one, click.Option)]
    assert all(option.help for option in options)
    named = {text for option in options for text in option.opts} - {"--json"}
    assert sorted(named) == sorted(set(re.findall(r"`(--?[\w-]+)", section)) & named)
    assert "--json" in {text for option in options for text in option.opts}


def test_every_setting_has_its_heading() -> None:
    """In the order in which they are declared."""
    assert list(sections(REFERENCE / "settings.md")) == names()


def test_every_exit_code_is_documented() -> None:
    """Those that commands end with, and no others."""
    from celery_flows.cli import failures

    codes = {value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int)}
    table = re.findall(r"^\| (\d+) \|", (REFERENCE / "cli.md").read_text(), flags=re.MULTILINE)
    assert sorted(map(int, table)) == sorted(codes | {0, 2})
