"""The command that draws a flow: one that runs or has run, or what a class would run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from celery_flows.cli.failures import Failure, FlowsCommand
from celery_flows.cli.output import Output, coloured
from celery_flows.cli.target import Target
from celery_flows.cli.words import counted
from celery_flows.flow import Flow
from celery_flows.preview import Preview
from celery_flows.queries.batches import find_id
from celery_flows.queries.graph import graph as read_graph

#: By format, the ends of files that hold it.
_FORMATS: Final = {"tree": ".txt", "mermaid": ".mmd .mermaid", "svg": ".svg"}

#: What a name may not end with: nobody wants a tree in such a file.
_IMAGES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".ps", ".html", ".dot")


class Json(click.ParamType):  # type: ignore[type-arg] # generic in newer releases only
    """A list or an object, as JSON."""

    name = "JSON"

    def __init__(self, kind: type, example: str) -> None:
        self._kind, self._example = kind, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        if isinstance(value, self._kind):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is no JSON ({error}): write it like '{self._example}'.", param, ctx)
        if not isinstance(found, self._kind):
            self.fail(f"{value!r} is not what is needed here: write it like '{self._example}'.", param, ctx)
        return found


@click.command(cls=FlowsCommand)
@click.argument("what", metavar="ID|CLASS")
@click.option(
    "--args", type=Json(list, '[42, "a"]'), default="[]", help="Of a CLASS: what its plan is called with."
)
@click.option("--kwargs", type=Json(dict, '{"size": 42}'), default="{}", help="The same by name.")
@click.option(
    "--format", "wanted", type=click.Choice([*_FORMATS]), help="How it is written (as FILE ends, or tree)."
)
@click.option("-o", "--output", "file", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it.")
@click.pass_context
def graph(
    context: click.Context,
    what: str,
    args: list[Any],
    kwargs: dict[str, Any],
    wanted: str | None,
    file: Path | None,
) -> None:
    """Draw the batch ID, or what a flow's CLASS would run.

    A batch is drawn with the states of its jobs; a CLASS is written package.module:Class. Of what is alike a
    drawing or a chart shows the first, and how many more there are.
    """
    target, out = Target(context), Output(context)
    if ":" in what:
        shown, record = _preview(target, what, args, kwargs), {"class": what}
    elif args or kwargs:
        raise click.UsageError("--args and --kwargs are for a CLASS: what a batch was called with is in its rows.")
    else:
        shown, record = _batch(target, what)
    if out.is_json and (wanted or file):
        raise click.UsageError("--json is a format of its own, and goes to stdout: leave --format and --output.")
    if out.is_json:
        out.say({**record, "title": shown.title, **shown.to_dict()}, "")
        return
    form = wanted or _format_of(file)
    if file is None:
        out.say({}, _WRITERS[form](shown))
    else:
        _write(file, click.unstyle(_WRITERS[form](shown)))
        out.note(f"Written: {file}, {counted(len(shown.plan.nodes), 'job')}")


def _batch(target: Target, prefix: str) -> tuple[Preview, dict[str, str]]:
    with target.reading() as database:
        batch_id = find_id(database, prefix)
        return read_graph(database, batch_id), {"id": batch_id}


def _preview(target: Target, what: str, args: list[Any], kwargs: dict[str, Any]) -> Preview:
    if target.has_app:
        target.import_tasks()
    else:
        # As `celery -A` does: modules stand where one is.
        sys.path.insert(0, str(Path.cwd()))
    cls = _class(what)
    try:
        return cls.preview(*args, **kwargs)
    except TypeError as error:
        said = f"{what} can't be planned so: {error}. Give what its plan takes with --args and --kwargs."
        raise Failure(said) from error


def _class(what: str) -> type[Flow]:
    module, _, name = what.partition(":")
    try:
        found: Any = import_module(module)
    except ImportError as error:
        raise click.BadParameter(f"There is no module {module!r} to import here: {error}.") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Flow)):
        raise click.BadParameter(
            f"{name!r} in {module} is no flow: name a Sequence, an Orchestration or the like."
        )
    return found


def _format_of(file: Path | None) -> str:
    ending = file.suffix.lower() if file else ""
    if ending in _IMAGES:
        raise click.UsageError(f"No {ending} is drawn here: name the file .svg, or say --format.")
    return next((form for form, endings in _FORMATS.items() if ending and ending in endings.split()), "tree")


_WRITERS: Final[dict[str, Callable[[Preview], str]]] = {
    "tree": lambda shown: "\n".join(shown.lines(coloured)),
    "mermaid": Preview.to_mermaid,
    "svg": Preview.to_svg,
}


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"{file} can't be written: {error.strerror}.") from error
