"""The commands that list templates, and start flows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from celery_flows.cli.failures import FlowsCommand
from celery_flows.cli.output import Output
from celery_flows.cli.target import Target
from celery_flows.template import Template, describe, read_params, read_texts
from celery_flows.typed import models


class Param(click.ParamType):  # type: ignore[type-arg] # generic in newer releases only
    """A param such as doc_id=123."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Read it as a name and a value."""
        name, sign, text = str(value).partition("=")
        if not sign or not name:
            self.fail(f"{value!r} is no param: write name=value, such as doc_id=123.", param, ctx)
        return name, text


@click.command(cls=FlowsCommand)
@click.pass_context
def templates(context: click.Context) -> None:
    """List the templates that the app registers, with their params."""
    _import_tasks(Target(context))
    out, found = Output(context), [Template.get(name) for name in Template.names()]
    for template in found:
        described = describe(template)
        out.say({"name": template.name, "described": described}, described)
    if not found:
        out.note("No templates are registered by what the app imports.")


@click.command(cls=FlowsCommand)
@click.argument("name")
@click.option("--param", "params", multiple=True, type=Param(), help="A param, as often as needed: doc_id=123.")
@click.option(
    "--params-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML, TOML or JSON file of params; --param goes before it.",
)
@click.option("--tag", "tags", multiple=True, help="A word to find the flow by, as often as needed.")
@click.option("--preview", is_flag=True, help="Show the plan, and run nothing.")
@click.pass_context
def run(
    context: click.Context,
    name: str,
    params: tuple[tuple[str, str], ...],
    params_file: Path | None,
    tags: tuple[str, ...],
    *,
    preview: bool,
) -> None:
    """Start a flow from the template NAME, and print its id.

    A param is read as JSON where it takes that, and else as text.
    """
    _import_tasks(Target(context))
    found = Template.get(name)
    # Those of its builder stay where none are given.
    template = found.using(tags=list(tags)) if tags else found
    given, written = read_params(params_file) if params_file else {}, read_texts(template, dict(params))
    out = Output(context)
    if preview:
        shown = template.preview(given, **written)
        out.say(shown.to_dict(), str(shown))
    else:
        batch_id = template.start(given, **written).id
        out.say({"id": batch_id}, batch_id)


def _import_tasks(target: Target) -> None:
    # Templates are registered where the app's tasks are, which a worker imports when it starts.
    target.import_tasks()
    models()
