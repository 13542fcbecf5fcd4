"""How a command fails: one line on stderr, and an exit code."""

from __future__ import annotations

from typing import Any, Final

import click

from celery_flows.cli import JSON
from celery_flows.cli.target import Target
from celery_flows.errors import BatchAmbiguous, BatchNotFound, FlowsError, JobGiven
from celery_flows.store.troubles import Trouble, trouble
from celery_flows.store.urls import masked

#: The command could not do it, or the tables are missing or out of date. (2 is click's: used wrongly.)
FAILED: Final = 1

#: There is no such batch.
NOT_FOUND: Final = 3

#: It took too long.
TIMED_OUT: Final = 4

#: The batch that was waited for is cancelled.
CANCELLED: Final = 5

#: The database can't be reached.
UNREACHABLE: Final = 6

#: Somebody pressed Ctrl-C, as the shell says it.
DETACHED: Final = 130


class Failure(click.ClickException):
    """The end of a command that failed."""

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsedWrongly(Failure):
    """The end of a command that was given what it can do nothing with."""

    exit_code = click.UsageError.exit_code


class NotFound(Failure):
    """The end of a command about a batch that does not exist."""

    exit_code = NOT_FOUND


class Unreachable(Failure):
    """The end of a command that could not reach the database."""

    exit_code = UNREACHABLE


def _ask_for_json(context: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001  # click's signature
    context.meta[JSON] = value


class FlowsCommand(click.Command):
    """A command that has `--json`, and whose expected failures are one line, not a traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        said = "One JSON object per line, for programs."
        json = click.Option(["--json"], is_flag=True, expose_value=False, callback=_ask_for_json, help=said)
        self.params.append(json)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            Failure: something went wrong that can be said in one line.
        """
        try:
            return super().invoke(ctx)
        except BatchNotFound as error:
            raise NotFound(f"{error} See which there are: flows list") from error
        except (BatchAmbiguous, JobGiven) as error:
            raise UsedWrongly(str(error)) from error
        except FlowsError as error:
            raise Failure(str(error)) from error
        except Exception as error:
            found = trouble(error)
            if found is None:
                raise
            raise _failure(found, Target(ctx)) from error


def _failure(found: Trouble, target: Target) -> Failure:
    database = f"The database {masked(target.url)}"
    if found.is_unreachable:
        return Unreachable(f"{database} can't be reached: {found.words}")
    return Failure(f"{database} refused: {found.words}")
