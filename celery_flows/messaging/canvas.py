"""Celery's canvas as a plan: each of its tasks a node, and an edge where one waits for another.

What goes where is Celery's own rule: a chain's arguments to its first task and its links to its last one,
a chord's options to header and body. Each task is really called, so that all that it does with its arguments
and options is done; the call is caught. Results that are not there yet are put in when the job's turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from celery import Signature, group
from celery.canvas import _basemap, _chain, _chord, chunks, maybe_unroll_group
from celery.utils.functional import maybe_list
from vine import barrier

from celery_flows.errors import PlanInvalid, UnknownTask
from celery_flows.ids import new_id
from celery_flows.messaging.call import decode_options
from celery_flows.messaging.catcher import HOLE, Catcher, Caught
from celery_flows.messaging.errback import ERRBACK, wants_error
from celery_flows.plan import Node, Plan
from celery_flows.states import Condition, Kind, Takes

#: Options of a chain that are its last task's.
_OF_THE_LAST: Final[tuple[str, ...]] = ("task_id", "group_id", "group_index")

#: Options by which a chord's header waits.
_DELAYS: Final[tuple[str, ...]] = ("countdown", "eta")

#: Options that say where a message goes.
_ROUTES: Final = ("queue", "exchange", "routing_key", "priority")


@dataclass(frozen=True)
class Call:
    """How a part of a canvas is called, and what it waits for."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    #: What is called with its result, and what is called if it fails.
    links: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    #: The jobs that it waits for, how they must end, and whether their results come before its arguments.
    before: tuple[str, ...] = ()
    condition: Condition = Condition.COMPLETE
    takes: Takes | None = None
    #: Jobs that must have completed as well.
    guard: tuple[str, ...] = ()
    #: Where a chord's body begins: what the chord waits for. Its errbacks are called if the header fails too.
    hears: tuple[str, ...] | None = None
    #: The task that Celery calls root, and the one that it calls parent.
    lineage: tuple[str, str] | None = None


class Part(NamedTuple):
    """A part of a canvas that was planned."""

    #: The jobs with which it begins.
    begins: list[str]
    #: The jobs whose results are its own.
    ends: list[str]
    #: Whether its result is a list of theirs.
    is_list: bool
    #: As Celery's `apply_async` gives it.
    result: Any


class Canvas:
    """Puts canvases into a plan."""

    def __init__(self, catcher: Catcher, plan: Plan, *, is_strict: bool) -> None:
        """Begin.

        Args:
            is_strict: whether a task that is not registered is refused.
        """
        self._app = catcher.runtime.app
        self._catcher = catcher
        self._plan = plan
        self._is_strict = is_strict

    def add(self, signature: Any, call: Call) -> Part:
        """Plan a signature of any shape.

        Raises:
            UnknownTask: a task is not registered.
            PlanInvalid: a chord has no body, or a task makes more than one call when it is called.
            NotJson: an argument or option can't be stored.
            TypeError: as Celery's, for arguments that don't fit and for a link from a group.
        """
        one = _signature(signature)
        if isinstance(one, chunks):
            return self._group(group(list(one.group().tasks), **one.options), call)
        if isinstance(one, _chain):
            return self._chain(one, call)
        if isinstance(one, _chord):
            return self._chord(one, call)
        if isinstance(one, group):
            return self._group(one, call)
        return self._task(one, call)

    # ------------------------------------------------------------ one task

    def _task(self, one: Signature, call: Call) -> Part:
        name = one["task"]
        if self._is_strict and name not in self._app.tasks:
            raise UnknownTask(task=str(name))
        mine = one.clone()
        mine._app, mine._type = self._app, self._app.tasks.get(name)
        call = replace(call, takes=None if one.immutable else call.takes)
        args = (HOLE, *call.args) if call.takes else call.args
        options = {**self._lineage(call), **call.options}
        if isinstance(one, _basemap):
            # Celery 5.5 forgets those that were set.
            options = {**one.options, **options}
        return self.arrange(
            self._catcher.call(lambda: mine.apply_async(args, dict(call.kwargs), **options), str(name)), call
        )

    def _lineage(self, call: Call) -> dict[str, Any]:
        if call.lineage is None:
            return {}
        root, parent = call.lineage
        # In a worker all that a task calls has the task's own root.
        is_root_known = self._app.current_worker_task is not None
        return {"parent_id": parent} if is_root_known else {"root_id": root, "parent_id": parent}

    def arrange(self, caught: Caught, call: Call) -> Part:
        """Put a call that was caught into the plan, with all that comes after it."""
        node, onward = self._plan.add(caught.node), caught.onward
        self._plan.connect(call.before, [node.id], call.condition, takes=call.takes)
        self._plan.connect(call.guard, [node.id])
        alone = Part([node.id], [node.id], False, caught.result)
        after = self._after(alone, call)
        for errback in _each_once((*onward.errbacks, *call.errbacks)):
            self._errback(errback, node, replace(after, hears=call.hears))
        links = onward.links if onward.chain else (*onward.links, *call.links)
        for link in links:
            self.add(link, after)
        if not onward.chain:
            return alone
        steps = list(self._steps(reversed(onward.chain)))
        rest = replace(after, links=call.links, errbacks=call.errbacks)
        return self._series(steps, rest, {}, alone)

    def _errback(self, errback: Any, node: Node, after: Call) -> None:
        hears = after.hears
        condition = Condition.FAILURE if hears is None else Condition.MISSED
        waits = replace(after, condition=condition, guard=hears or (), hears=None, takes=None, args=(node.id,))
        one = _signature(errback)
        if wants_error(one, self._app):
            # As Celery, which calls it in the process of the task that failed.
            routes = {key: value for key, value in decode_options(node.options).items() if key in _ROUTES}
            given = Signature(ERRBACK, (dict(one), node.id), immutable=True)
            self._task(given, replace(waits, args=(), options={"route_name": node.task, **routes}))
        else:
            self.add(one, waits)

    # ------------------------------------------------------------ one after another

    def _chain(self, one: Any, call: Call) -> Part:
        call = _into(one, call)
        options = dict(call.options)
        of_the_last = {key: options.pop(key) for key in _OF_THE_LAST if key in options}
        steps = list(self._steps(one.tasks))
        if not steps:
            # Nothing but empty groups is an empty group; nothing at all is nothing.
            result = self._result_of([], new_id()) if list(one.tasks) else None
            return Part([], [], False, result)
        return self._series(steps, replace(call, options=options), of_the_last)

    def _steps(self, tasks: Any) -> Iterator[Any]:
        """The steps of a chain: chains in it are part of it, a group of one is its task, an empty one is none."""
        for task in tasks:
            one = _signature(task)
            if isinstance(one, group):
                one = _signature(maybe_unroll_group(one))
            if isinstance(one, _chain):
                yield from self._steps(one.unchain_tasks() if one.tasks and _has_links(one) else one.tasks)
            elif not isinstance(one, group) or list(one.tasks):
                yield one

    def _series(
        self, steps: Sequence[Any], call: Call, of_the_last: Mapping[str, Any], so_far: Part | None = None
    ) -> Part:
        """Plan the steps of a chain; a group that something follows is the header of a chord.

        Args:
            of_the_last: options of the last step.
            so_far: what was planned of the chain already, which `call` waits for.
        """
        begins, result = ([], None) if so_far is None else (so_far.begins, so_far.result)
        here = replace(call, links=(), errbacks=())
        for number, step in enumerate(steps):
            is_last = number == len(steps) - 1
            here = replace(here, errbacks=call.errbacks)
            if is_last:
                here = replace(here, links=call.links, options={**here.options, **of_the_last})
            is_header = isinstance(step, group) and not is_last
            part = self._group(step, here, is_header=True) if is_header else self.add(step, here)
            begins, result = begins or part.begins, _behind(part.result, result)
            if is_last:
                return Part(begins, part.ends, part.is_list, result)
            here = self._after(part, here, steps[number + 1], hears=here.before if is_header else None)
        raise AssertionError("a chain has steps")

    def _after(self, part: Part, call: Call, following: Any = None, hears: tuple[str, ...] | None = None) -> Call:
        """How what follows a part is called."""
        before, takes = tuple(part.ends), Takes.LIST if part.is_list else Takes.ONE
        if len(before) > 1 and following is not None and _is_wide(following):
            # Else each of many would wait for each of many.
            join = self._plan.add(Node(new_id(), Kind.JOIN, ""))
            self._plan.connect(before, [join.id], takes=Takes.LIST if _takes(following) else None)
            before, takes = (join.id,), Takes.ONE
        root = call.lineage[0] if call.lineage else part.begins[0]
        return Call(before=before, takes=takes, hears=hears, lineage=(root, part.ends[-1]))

    # ------------------------------------------------------------ side by side

    def _group(self, one: Any, call: Call, *, is_header: bool = False) -> Part:
        inner = _into(one, call)
        if inner.links or len(inner.errbacks) > len(call.errbacks):
            # Celery's own words.
            raise TypeError("Cannot add link to group: use a chord, or do that on individual tasks")
        options = dict(inner.options)
        group_id = options["group_id"] = options.pop("task_id", None) or new_id()
        inner = replace(inner, options=options, hears=None if is_header else inner.hears)
        parts = [
            self.add(member, self._member(member, inner, is_header=is_header)) for member in _members(one.tasks)
        ]
        begins = [node_id for part in parts for node_id in part.begins]
        ends = [node_id for part in parts for node_id in part.ends]
        results = [part.result for part in parts if part.ends]
        return Part(begins, ends, True, self._result_of(results, group_id))

    def _member(self, member: Any, call: Call, *, is_header: bool) -> Call:
        """How a member is called; those of a header have their chord's errbacks only if the app says so."""
        is_told = (
            not is_header or isinstance(member, _chord) or bool(self._app.conf.task_allow_error_cb_on_chord_header)
        )
        return call if is_told else replace(call, errbacks=())

    def _result_of(self, results: list[Any], group_id: str) -> Any:
        group_result = self._app.GroupResult
        if len(results) == 1 and isinstance(results[0], group_result):
            return results[0]
        # With a barrier of its own it does not ask the backend to tell it of each.
        return group_result(group_id, results, ready_barrier=barrier())

    def _chord(self, one: Any, call: Call) -> Part:
        given = {**one.kwargs.get("kwargs", {}), **call.kwargs}
        body = given.pop("body", None) or one.kwargs.get("body")
        if body is None:
            raise PlanInvalid(problem="a chord has no body: chord(header, body)")
        inner = _into(one, replace(call, kwargs=given))
        options = dict(inner.options)
        own = {key: options.pop(key) for key in ("task_id",) if key in options}
        delays = {key: options.pop(key) for key in _DELAYS if key in options}
        header = one.tasks if isinstance(one.tasks, group) else group(list(one.tasks), app=self._app)
        # A link is the body's, and an errback that was set on the chord too.
        head = replace(inner, links=(), errbacks=call.errbacks, options={**options, **delays})
        planned = self._group(header, head, is_header=True)
        if planned.ends:
            here = self._after(planned, inner, body, hears=inner.before)
        else:
            here = Call(args=([],), before=inner.before, lineage=inner.lineage)
        last = self.add(
            body, replace(here, options={**options, **own}, links=inner.links, errbacks=inner.errbacks)
        )
        if not last.ends:
            raise PlanInvalid(problem="the body of a chord is empty")
        return Part(planned.begins or last.begins, last.ends, last.is_list, _behind(last.result, planned.result))


def _signature(one: Any) -> Any:
    if isinstance(one, Signature):
        return one
    if not isinstance(one, dict):
        raise PlanInvalid(problem=f"{one!r} is no signature")
    return Signature.from_dict(one)


def _into(one: Any, call: Call) -> Call:
    """A call of a chain, group or chord, with what was set on it."""
    options = {**one.options, **{key: value for key, value in call.options.items() if value is not None}}
    links = (*(maybe_list(options.pop("link", None)) or ()), *call.links)
    errbacks = (*(maybe_list(options.pop("link_error", None)) or ()), *call.errbacks)
    for key in ("chain", "chord"):
        options.pop(key, None)
    if one.immutable:
        return replace(call, args=(), options=options, links=links, errbacks=errbacks, takes=None)
    args = (*call.args, *one.args)
    return replace(call, args=args, options=options, links=links, errbacks=errbacks)


def _members(tasks: Any) -> Iterator[Any]:
    """The members of a group: those of groups in it are its own, empty chains are none."""
    for task in tasks:
        one = _signature(task)
        if isinstance(one, group):
            yield from _members(one.tasks)
        elif not isinstance(one, _chain) or list(one.tasks):
            yield one


def _first(one: Any) -> list[Any]:
    """What is called first of a signature."""
    if isinstance(one, chunks):
        return list(one.group().tasks)
    if isinstance(one, _chain):
        return list(one.tasks)[:1]
    if isinstance(one, _chord):
        return list(one.tasks.tasks if isinstance(one.tasks, group) else one.tasks)
    return list(one.tasks)


def _is_one(one: Any) -> bool:
    return not isinstance(one, (_chain, group, _chord, chunks))


def _is_wide(signature: Any) -> bool:
    """Whether more than one job begins with it."""
    one = _signature(signature)
    if _is_one(one):
        return False
    first = _first(one)
    return len(first) > 1 or any(_is_wide(inner) for inner in first)


def _takes(signature: Any) -> bool:
    """Whether a result is put before the arguments of what begins with it."""
    one = _signature(signature)
    return not one.immutable and (_is_one(one) or any(_takes(inner) for inner in _first(one)))


def _has_links(one: Any) -> bool:
    return bool(one.options.get("link") or one.options.get("link_error"))


def _each_once(errbacks: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for errback in errbacks:
        if errback not in found:
            found.append(errback)
    return found


def _behind(result: Any, earlier: Any) -> Any:
    """A result, with an earlier one as the parent of its first."""
    node = result
    while node is not None and node.parent is not None:
        node = node.parent
    if node is not None and node is not earlier:
        node.parent = earlier
    return result
