"""Write the pages and drawings that follow from the code: `python docs/generate.py`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from celery_flows import errors
from celery_flows.errors import FlowsError
from celery_flows.plan import Node, Plan
from celery_flows.settings import DATABASE_URL_VARIABLE, PREFIX, Settings
from celery_flows.shown.svg import to_svg
from celery_flows.states import Condition, JobState, Kind

_REFERENCE = Path(__file__).parent / "reference"

_SETTINGS = f"""\
# Settings

% Written by docs/generate.py from celery_flows/settings.py. Change it there.

A setting stands in `app.conf` under its name with the prefix `{PREFIX}`, or is a keyword argument
of `Flows(app, ...)` and `init_app(app, ...)` without it:
`app.conf.{PREFIX}chunk_size = 500` and `Flows(app, chunk_size=500)` are the same.
Where the app reads its configuration under a namespace, as Django projects do, the namespace goes first:
`CELERY_FLOWS_CHUNK_SIZE`.
The environment variable `{DATABASE_URL_VARIABLE}` goes before every other source of `database_url`.

Settings are read once, at first use. A key with our prefix that is no setting, and a value of the wrong type,
are refused with what is allowed.
"""

_ERRORS = """\
# Errors

% Written by docs/generate.py from celery_flows/errors.py. Change it there.

Each of these is a `celery_flows.errors.FlowsError`.
A call with wrong arguments raises Python's own `TypeError` or `ValueError`.
The facts named in braces are also attributes of the error.
Errors that a job ends with are stored as text and never imported again.
"""


def settings_page() -> str:
    """The page of settings: each with type, default, what is allowed and a sentence."""
    sentences = _sentences(inspect.getsource(Settings))
    parts = [_SETTINGS]
    for one in fields(Settings):
        default = one.default_factory()  # type: ignore[misc] # each setting has one
        parts.append(
            f"## `{one.name}`\n\n{sentences[one.name]}\n\n"
            f"- type: `{one.type}`\n- allowed: {one.metadata['allowed']}\n- default: `{_show(default)}`\n"
        )
    return "\n".join(parts)


def _show(value: Any) -> str:
    return "{}" if isinstance(value, Mapping) and not value else repr(value)


def _sentences(source: str) -> dict[str, str]:
    found = {}
    for comment, name in re.findall(r"((?:^    #: .*\n)+)    (\w+):", source, re.MULTILINE):
        found[name] = " ".join(line.strip().removeprefix("#: ") for line in comment.splitlines())
    return found


def errors_page() -> str:
    """The page of errors: each with its message, and its other bases."""
    every = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, FlowsError)]
    parts = [f"## `{one.__name__}`\n\n{_also(one)}{_message(one)}\n" for one in every if one is not FlowsError]
    return "\n".join([_ERRORS, *parts])


def _also(error: type[FlowsError]) -> str:
    others = [base.__name__ for base in error.__bases__ if not issubclass(base, FlowsError)]
    return f"Also a `{others[0]}`. " if others else ""


def _message(error: type[FlowsError]) -> str:
    message = " ".join(inspect.cleandoc(error.__doc__ or "").split("\n"))
    message = re.sub(r"\{(\w+)(?:![rs]|:\w+)?\}", r"{\1}", message)
    if message == "{problem}":
        return "Its message says what is wrong and what to do instead."
    return f"> {message}"


def gallery() -> str:
    """A drawing of the workflow that docs/howto/shell.md shows, after two of its jobs have failed."""
    plan = Plan()
    resized = [plan.add(Node(f"n{number}", Kind.TASK, "page.resize")).id for number in range(5_000)]
    manifest = plan.add(Node("manifest", Kind.TASK, "page.build_manifest", name="manifest"))
    owner, alert = (plan.add(Node(name, Kind.TASK, f"page.{name}")) for name in ("tell_owner", "alert"))
    plan.connect(resized, [manifest.id])
    plan.connect([manifest.id], [owner.id])
    plan.connect([manifest.id], [alert.id], Condition.FAILURE)
    states = dict.fromkeys(resized, JobState.COMPLETE) | dict.fromkeys(["n17", "n4711"], JobState.FAILED)
    states |= dict.fromkeys([manifest.id, owner.id, alert.id], JobState.SKIPPED)
    return to_svg("Gallery 01a2231e-3752-7181: failed", plan, states) + "\n"


#: What is generated, by its place, as seen from docs/reference/.
PAGES = {"settings.md": settings_page, "errors.md": errors_page, "../howto/gallery.svg": gallery}


if __name__ == "__main__":
    for name, write in PAGES.items():
        (_REFERENCE / name).write_text(write())
