"""Flows: batches whose jobs wait for one another. What all ways of writing one have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import wraps
from inspect import Parameter, getattr_static, signature
from types import FunctionType
from typing import Any, ClassVar, Final, Generic, NoReturn, Self, TypeVar

from celery_flows.batch import Batch, classes
from celery_flows.codec import encode, safe_text
from celery_flows.errors import BlockMisuse, PlanInvalid
from celery_flows.ids import new_id
from celery_flows.job import current_job
from celery_flows.memory import Memory
from celery_flows.messaging.block import Block
from celery_flows.messaging.callback import new_callback, waiting
from celery_flows.messaging.founding import FoundingBlock, enroll_with_outcome
from celery_flows.messaging.given import check_on_loss, encode_context, encode_key, encode_tags, owns_memory
from celery_flows.messaging.memory import begin, storable
from celery_flows.messaging.methods import check_runs, check_takes, module_of, share
from celery_flows.messaging.planning import callbacks, new_flow, planning
from celery_flows.messaging.recording import Recorder
from celery_flows.messaging.rundata import RunData
from celery_flows.messaging.runtime import Runtime, find_runtime, runtime_for
from celery_flows.plan import FlowCall, Plan
from celery_flows.preview import Preview
from celery_flows.states import Event
from celery_flows.store.joined import Joinable
from celery_flows.tolerance import Tolerance

_MANY: Final = Parameter.VAR_POSITIONAL
_MANY_NAMED: Final = Parameter.VAR_KEYWORD

F = TypeVar("F", bound="Flow")

#: Methods that are called when a flow announces something, by event.
_HANDLERS: Final = {event: f"on_{event}" for event in Event}


class Flow(Batch):
    """A batch whose jobs wait for one another, planned by a class.

    Not used itself: see Sequence, Orchestration, Workflow and BatchingTask. An instance stands for one
    running flow, and is a Batch. Methods named on_complete, on_failure and on_settled are its callbacks;
    each is called as a job of its own, with the flow.
    """

    #: What its batches are called in lists.
    flow_kind: ClassVar[str] = "flow"
    #: Whether it is only there to be inherited from.
    abstract: ClassVar[bool] = True
    #: How much may go wrong before it fails, as in Batch.create.
    tolerate: ClassVar[int | str] = 0
    #: What becomes of its jobs whose worker died, "fail" or "retry"; None: as the settings say.
    on_loss: ClassVar[str | None] = None
    #: The queue in which its planning and its own methods run, handlers included; None: the tasks' own routes.
    queue: ClassVar[str | None] = None
    #: Whether a run remembers what it was started with, by name, as far as JSON can hold that.
    remember: ClassVar[bool] = True
    #: Whether its data is its own, rather than that of the flow that it is part of.
    owns_memory: ClassVar[bool] = False
    #: The method that a worker calls to plan it.
    _planner: ClassVar[str] = "plan"

    def __init__(self, *known: Any, **named: Any) -> None:
        if named or len(known) < 2 or not isinstance(known[1], Runtime):
            name = type(self).__name__
            raise TypeError(
                f"{name} is not called itself: {name}.start(...) runs one, {name}.s(...) is one as a job of "
                f"another flow, and {name}.get(id) finds one"
            )
        super().__init__(*known)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.abstract = bool(cls.__dict__.get("abstract", False))
        if not cls.abstract:
            classes[cls._flow_name()] = cls
            cls._share_task(cls._planner, cls._plan_in_worker)
            for name in _HANDLERS.values():
                if hasattr(cls, name):
                    cls._share_method(name, cls._handling(name))

    @classmethod
    def _flow_name(cls) -> str:
        return f"{module_of(cls)}.{cls.__qualname__}"

    @classmethod
    def _task_name(cls, method: str) -> str:
        return f"{cls._flow_name()}.{method}"

    @classmethod
    def _share_method(cls, name: str, act: Callable[..., Any], **options: Any) -> None:
        """Register one of the class's methods as a task: a worker calls it on the flow that its job belongs to."""

        @wraps(act)
        def run(flow: Self, _task: Any, /, *args: Any, **kwargs: Any) -> Any:
            return act(flow, *args, **kwargs)

        cls._share_task(name, run, **options)

    @classmethod
    def _share_task(cls, name: str, act: Callable[..., Any], **options: Any) -> None:
        def run(task: Any, /, *args: Any, **kwargs: Any) -> Any:
            return act(cls._here(task), task, *args, **kwargs)

        run.__doc__ = act.__doc__
        share(cls._task_name(name), run, **options)

    @classmethod
    def _here(cls, task: Any) -> Self:
        job = current_job()
        if job is None:
            raise BlockMisuse(
                problem=f"{task.name} is a part of a flow: start one with {cls.__name__}.start(...)."
            )
        return cls(job.batch.id, job.batch._runtime)

    @classmethod
    def _check(cls) -> None:
        """See that the class can be planned, and that its handlers can be called.

        Raises:
            PlanInvalid: the culprit is named.
        """
        for name in _HANDLERS.values():
            method = getattr_static(cls, name, None)
            if isinstance(method, FunctionType):
                check_runs(cls, name, method)
                check_takes(cls, name, method, "batch")

    @classmethod
    def _handling(cls, name: str) -> Callable[..., Any]:
        def handle(flow: Self, _batch_id: str) -> Any:
            return getattr(flow, name)(flow)

        return handle

    # ------------------------------------------------------------ starting

    @classmethod
    def using(
        cls,
        *,
        description: str | None = None,
        context: Any = None,
        tolerate: int | str | None = None,
        tags: Iterable[str] = (),
        parent: Batch | None = None,
        on_loss: str | None = None,
        key: str | None = None,
        memory: str | None = None,
        connection: Joinable | None = None,
        app: Any = None,
    ) -> Launcher[Self]:
        """Say more about a flow before it is started: `Gallery.using(tags=["night"]).start(7)`.

        Args, and what is raised for them: as those of `Batch.create`.
        """
        more = {"description": description, "context": context, "tags": tags, "key": key, "memory": memory}
        how = {"tolerate": tolerate, "on_loss": on_loss, "parent": parent, "connection": connection, "app": app}
        return Launcher(cls, **more, **how)

    @classmethod
    def start(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Plan a flow here and now, enroll its jobs in one transaction, and publish those whose turn it is.

        Args: what the class's own plan takes.

        Raises:
            PlanInvalid: it has a cycle, two jobs of one name, or something that is no task.
            UnknownTask: a task is not registered with the app.
            NotJson: an argument can't be stored.
        """
        return cls.using().start(*args, **kwargs)

    @classmethod
    def delay(cls, /, *args: Any, **kwargs: Any) -> Self:
        """Let a worker plan a flow, and return it at once.

        Args: what the class's own plan takes.

        Raises:
            NotJson: an argument can't be stored.
        """
        return cls.using().delay(*args, **kwargs)

    @classmethod
    def preview(cls, /, *args: Any, **kwargs: Any) -> Preview:
        """Plan, and run nothing: prints as a tree; see also `to_mermaid()` and `to_dict()`."""
        cls._check()
        return Preview(cls.__name__, cls(new_id(), find_runtime()).planned(*args, **kwargs))

    @classmethod
    def s(cls, /, *args: Any, **kwargs: Any) -> FlowCall:
        """This flow, to be planned when its turn comes, for use as a job of another flow."""
        return cls.flow_call(*args, **kwargs)

    @classmethod
    def flow_call(cls, /, *args: Any, **kwargs: Any) -> FlowCall:
        """What `s` gives.

        Raises:
            PlanInvalid: the class lacks something, or has a method that can't be called as it will be.
        """
        cls._check()
        handlers = tuple(
            (str(event), cls._task_name(name)) for event, name in _HANDLERS.items() if hasattr(cls, name)
        )
        return FlowCall(
            cls._flow_name(),
            cls.flow_kind,
            cls._task_name(cls._planner),
            args,
            kwargs,
            {} if cls.queue is None else {"queue": cls.queue},
            handlers,
            cls.queue,
            str(Tolerance.parse(cls.tolerate)),
            check_on_loss(cls.on_loss, f"on_loss of {cls.__name__}"),
            cls.owns_memory,
        )

    # ------------------------------------------------------------ planning

    def planned(self, /, *args: Any, **kwargs: Any) -> Plan:
        """Make the plan. Each kind of flow has its own way.

        Raises:
            PlanInvalid: it can't be run.
        """
        self._recorder = Recorder(self._runtime, Plan())
        self._fill(args, kwargs)
        self._recorder.plan.check()
        return self._recorder.plan

    def _fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call what plans it."""
        said = getattr(self, self._planner)(*args, **kwargs)
        if said is not None and not self._recorder.plan.nodes:
            name = f"{type(self).__name__}.{self._planner}"
            raise PlanInvalid(
                problem=f"{name} gave {said!r} and planned no job: give each to self.run(...) instead"
            )

    def _enroll(self, block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Put what this flow consists of into a block; the plan as it is stored, where there is one."""
        plan = self.planned(*args, **kwargs)
        block.add_plan(plan)
        return encode(plan.to_dict())

    @classmethod
    def _begins_run(cls, memory: str | None) -> bool:
        """Whether its memory is its own, by what was said where it is started, or by the class."""
        return owns_memory(memory, cls.owns_memory)

    @classmethod
    def _start_arguments(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """What it is started with, by the names that its plan has for it."""
        if not cls.remember:
            return {}
        takes = signature(getattr(cls, cls._planner))
        try:
            bound = takes.bind_partial(None, *args, **kwargs)
        except TypeError:
            # What is wrong with it is said where the plan is called.
            return {}
        given = [(name, value, takes.parameters[name].kind) for name, value in bound.arguments.items()]
        named = {name: value for name, value, kind in given[1:] if kind not in (_MANY, _MANY_NAMED)}
        return named | bound.kwargs

    def _plan_in_worker(self, task: Any, /, *args: Any, **kwargs: Any) -> None:
        begun: dict[str, str] = {}
        if self.owns_memory and self.parent is not None:
            # Begun already where it was started itself; that of a part of another flow is not.
            known = storable(self._start_arguments(args, kwargs))
            begun = begin(self._runtime, new_flow(self.id, self.flow_call(), None), known)

        def fill(block: Block) -> str | None:
            block.data.update(begun)
            return self._enroll(block, args, kwargs)

        enroll_with_outcome(self._runtime, self.id, fill, task.request)

    # ------------------------------------------------------------ while it runs

    @property
    def data(self) -> MutableMapping[str, Any]:
        """What its jobs share: a mapping of texts to what JSON can hold, read and written at once.

        Inside one of its jobs use `current_job().data`, whose changes come with the job's outcome.
        """
        job = current_job()
        if job is not None and job.batch.id == self.id:
            return job.data
        return RunData(self._runtime, self.id)

    @property
    def memory(self) -> Memory:
        """What its jobs remember for one another; in one of its own methods, as `current_job().memory`."""
        job = current_job()
        return job.memory if job is not None and job.batch.id == self.id else super().memory


class Launcher(Generic[F]):
    """A flow class with what is to be said about the flow; what `SomeFlow.using(...)` gives."""

    def __init__(self, cls: type[F], **options: Any) -> None:
        self._class = cls
        self._options = options
        self._callbacks: list[tuple[str, Any, str | None]] = []
        self._seeds: dict[str, Any] = {}

    def on(self, event: str, callback: Any, *, queue: str | None = None) -> Self:
        """Add a callback, which is there before the first job runs; as `Batch.on`.

        Returns:
            This, so that calls can follow one another.
        """
        self._callbacks.append((event, callback, queue))
        return self

    def remembering(self, values: Mapping[str, Any]) -> Self:
        """Let its run remember these from the start."""
        self._seeds.update(values)
        return self

    def start(self, /, *args: Any, **kwargs: Any) -> F:
        """Plan a flow here and now, and run it; as the class's own `start`."""
        named = self._class._start_arguments(args, kwargs)
        return self._launch(lambda flow, block: flow._enroll(block, args, kwargs), named)

    def delay(self, /, *args: Any, **kwargs: Any) -> F:
        """Let a worker plan a flow, and return it at once; as the class's own `delay`."""
        call = self._class.flow_call(*args, **kwargs)
        named = self._class._start_arguments(args, kwargs)
        return self._launch(lambda flow, block: block.keep(planning(call, flow.id)), named)

    def preview(self, /, *args: Any, **kwargs: Any) -> Preview:
        """Plan, and run nothing; as the class's own `preview`."""
        return self._class.preview(*args, **kwargs)

    def s(self, /, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002  # it is refused whatever they are
        """Refuse to be a job of another flow: that has its description, tags and the like from its class alone.

        Raises:
            PlanInvalid: always.
        """
        name = self._class.__name__
        problem = f"what is said with using(...) is for a flow that is started: as a job of another, give {name} "
        raise PlanInvalid(problem=f"{problem}or {name}.s(...)")

    flow_call = s

    def _launch(
        self, fill: Callable[[F, FoundingBlock], str | None], remembered: Mapping[str, Any] | None = None
    ) -> F:
        runtime, call, parent = self._runtime(), self._class.flow_call(), self._options["parent"]
        flow = self._class(new_id(), runtime)
        parent_id = None if parent is None else parent.id
        row = new_flow(flow.id, call, None, **self._row())
        flow._described = row.description
        block = FoundingBlock(runtime, row, parent_id=parent_id, joined=self._options["connection"])
        try:
            if block.begins_run:
                block.data.update(storable({**(remembered or {}), **self._seeds}))
            block.plan = fill(flow, block)
            for handler in callbacks(call, flow.id, runtime.settings.callback_queue):
                block.keep(handler)
            for event, callback, queue in self._callbacks:
                block.keep(waiting(new_callback(runtime, flow.id, event, callback, queue)))
        except BaseException as error:
            block.abort(error)
            raise
        block.close()
        return flow

    def _runtime(self) -> Runtime:
        return runtime_for(self._options["parent"], self._options["app"])

    def _row(self) -> dict[str, Any]:
        options, cls = self._options, self._class
        tolerate, description, key = options["tolerate"], options["description"], options["key"]
        return {
            "description": None if description is None else safe_text(description),
            "context": encode_context(options["context"]),
            "tags": encode_tags(options["tags"]),
            "tolerate": str(Tolerance.parse(cls.tolerate if tolerate is None else tolerate)),
            "on_loss": check_on_loss(options["on_loss"] or cls.on_loss),
            "batch_key": encode_key(key),
            "owns_memory": cls._begins_run(options["memory"]),
        }
