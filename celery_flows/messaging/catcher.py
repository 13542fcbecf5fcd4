"""Catching a call on its way out: a task is called as ever, while something stands where an open block would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from celery.utils.functional import maybe_list

from celery_flows.errors import PlanInvalid
from celery_flows.messaging.captured import node_of
from celery_flows.messaging.context import within
from celery_flows.messaging.failure import why_unanswered
from celery_flows.messaging.result import EnrolledResult, hold
from celery_flows.messaging.runtime import Runtime
from celery_flows.plan import Node

#: Stands for a result that is not there yet, so that Celery can check the call's arguments.
HOLE: Final = object()


class Onward(NamedTuple):
    """What a call says of calls that come after it."""

    #: Called with its result.
    links: tuple[Any, ...] = ()
    #: Called if it fails.
    errbacks: tuple[Any, ...] = ()
    #: The rest of its chain, as Celery has it: the next one last.
    chain: tuple[Any, ...] = ()


NOTHING: Final = Onward()

#: The options of a call that say what comes after it.
_ONWARD: Final = {"chord", "link", "link_error", "chain"}


class Caught(NamedTuple):
    """A call that was caught."""

    node: Node
    onward: Onward
    result: EnrolledResult


def split(task: str, options: Mapping[str, Any]) -> tuple[Onward, dict[str, Any]]:
    """Take what comes after a call out of its options.

    Raises:
        PlanInvalid: it is a member of a chord that Celery counts itself.
    """
    if not _ONWARD & options.keys():
        return NOTHING, dict(options)
    left = dict(options)
    if left.pop("chord", None):
        raise PlanInvalid(problem=f"{task} is called as one of a chord: call the chord as a whole")
    return Onward(*(tuple(maybe_list(left.pop(key, None)) or ()) for key in ("link", "link_error", "chain"))), left


def catch(
    runtime: Runtime,
    task: str,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
    is_held: Callable[[], bool],
) -> Caught:
    """Make a node of a call.

    Raises:
        NotJson: an argument or option can't be stored.
        PlanInvalid: it is a member of a chord that Celery counts itself.
    """
    onward, left = split(task, options)
    given = list(args or ())
    node = node_of(runtime, task, given[1:] if given and given[0] is HOLE else given, kwargs, left)
    return Caught(node, onward, hold(node.id, runtime.app, is_held, lambda: why_unanswered(runtime, node.id)))


class Catcher:
    """Stands where an open block would."""

    #: As a block's: calls made here and now are caught.
    takes_calls = True
    is_held = True
    around = None
    batch_id = ""

    def __init__(self, runtime: Runtime, is_held: Callable[[], bool]) -> None:
        self.runtime = runtime
        self._is_held = is_held
        self._caught: list[Caught] = []

    def holds(self, batch_id: str) -> bool:
        """No batch's rows are written with what is caught here."""
        return False

    def capture(self, task: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> EnrolledResult:
        """Catch a call."""
        caught = catch(self.runtime, task, args, kwargs, options, self._is_held)
        self._caught.append(caught)
        return caught.result

    def call(self, act: Callable[[], Any], what: str) -> Caught:
        """Do something that makes one call, and catch it.

        Raises:
            PlanInvalid: it made none, or several.
        """
        self._caught = []
        with within(self):
            act()
        if len(self._caught) != 1:
            raise PlanInvalid(problem=f"calling {what} made {len(self._caught)} calls, and must make one")
        return self._caught[0]
