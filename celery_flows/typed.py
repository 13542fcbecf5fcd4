"""Typed tasks: what they are called with and what they return are pydantic models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeVar,
    get_type_hints,
    overload,
)

from celery_flows.errors import BadInput, BadOutput, ConfigurationError, NotJson, NotTyped
from celery_flows.job import current_job
from celery_flows.messaging.methods import share_function
from celery_flows.messaging.runtime import attached_to

if TYPE_CHECKING:
    from pydantic import BaseModel

    from celery_flows.codec import Codec

    class Task:
        """Celery's own as type checkers see it: a base of unknown type would fit wherever any is wanted."""

        run: Any
        __call__: Any
        apply: Any
        apply_async: Any
        signature: Any

        def __getattr__(self, name: str) -> Any: ...

else:
    from celery import Task

I = TypeVar("I", bound="BaseModel")  # noqa: E741  # as in Input
O = TypeVar("O", bound="BaseModel | None")  # noqa: E741  # as in Output

#: Where a request says that its task's own call is under way: one made in it is an ordinary call.
_RUNNING: Final = "flows_typed"


class TypedTask(Task, Generic[I, O]):
    """A task that takes one pydantic model and returns another; a base for task classes.

    A subclass says which, as `Input` and `Output`, or by the annotations of `run`. It is called with the model,
    with fields by name, or with one mapping of them, by `delay`, `apply_async`, `s` and `si`. In a run, fields
    that the call leaves out come from the run's memory; what it returns is remembered there, unless it has
    `remember = False`.

    What does not fit fails the job at once, however often it would be tried again: BadInput, BadOutput.
    """

    abstract = True
    #: Celery would check the arguments of `run`, which is not what calls give.
    typing: Literal[False] = False
    name: str
    #: As a callback it is not given the batch's id, which is no field.
    by_name_only: ClassVar[bool] = True
    #: Whether what it returns goes into the run's memory: True, False, or "job", under the job's name.
    remember: ClassVar[bool | str] = True
    #: The model that `run` takes.
    Input: ClassVar[Any] = None
    #: The model that it returns; None: it returns nothing.
    Output: ClassVar[Any] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls)
        # What Celery makes of a function has it said already.
        if "run" in own and "Input" not in own and "_decorated" not in own and cls._is_to_be_read(own["run"]):
            cls.Input, cls.Output = contract_of(own["run"], bound=True)

    @classmethod
    def _is_to_be_read(cls, run: Callable[..., Any]) -> bool:
        """Whether the annotations of `run` say the models: in a subclass only if there are any."""
        return cls.Input is None or bool(inspect.get_annotations(run))

    @overload
    def __call__(self, input: I | Mapping[str, Any], /, **fields: Any) -> O: ...
    @overload
    def __call__(self, /, **fields: Any) -> O: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> O:
        """Run it: for a message, on plain data; called as a function, on the model, and returning a model."""
        request = self.request
        if request.called_directly or getattr(request, _RUNNING, False):
            model = self._model(self._fields(args, kwargs))
            result: O = super().__call__(model)
            self._data(result)
            return result
        setattr(request, _RUNNING, True)
        model = self._model(models().over(self.Input, self._remembered(), self._fields(args, kwargs)))
        # Celery's own would begin another request; a user's may have something to do around the task.
        is_celerys = getattr(super().__call__, "__func__", None) is Task.__call__
        act = self.run if is_celerys else super().__call__
        return self._data(act(model))  # type: ignore[return-value] # for a message it is plain

    def delay(self, input: I | Mapping[str, Any] | None = None, /, **fields: Any) -> Any:  # noqa: A002
        """Call it: with the model, fields by name, or one mapping of fields.

        Raises:
            BadInput: with something else.
            NotJson: a field can't be sent.
        """
        return self.apply_async(self._one(input), fields)

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Call it, with Celery's options."""
        return super().apply_async(*self._plain(args, kwargs), *more, **options)

    def apply(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Run it here, as a worker would."""
        return super().apply(*self._plain(args, kwargs), *more, **options)

    def s(self, input: I | Mapping[str, Any] | None = None, /, **fields: Any) -> Any:  # noqa: A002
        """Make a signature; in a chain, fields come from what the task before returned too."""
        return self.signature(self._one(input), fields)

    def si(self, input: I | Mapping[str, Any] | None = None, /, **fields: Any) -> Any:  # noqa: A002
        """Make a signature that takes nothing from the task before it."""
        return self.signature(self._one(input), fields, immutable=True)

    def signature(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Make a signature, with Celery's options."""
        return super().signature(*self._plain(args, kwargs), *more, **options)

    subtask = signature

    def _one(self, given: Any) -> tuple[Any, ...]:
        if given is not None and not _has_fields(given):
            raise self._by_position(given)
        return () if given is None else (given,)

    def _by_position(self, *args: Any) -> BadInput:
        takes, given = self.Input.__name__, ", ".join(type(one).__name__ for one in args)
        problem = f"it takes one {takes}, a mapping, or fields by name, and not by position: {given}"
        return BadInput(task=self.name, problem=problem)

    def _plain(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a message carries for what it is called with: fields by name."""
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        given: dict[str, Any] = {}
        # In a chain what comes from the task before may be anything: the worker says what is wrong with it.
        if len(args) == 1 and _has_fields(args[0]):
            given, args = self._dumped(args[0]), ()
        plain = models().over(self.Input, given, self._dumped(kwargs))
        codec = self._codec
        # What a secret type held is hidden already.
        return args, plain if codec is None else models().hide(self.Input, plain, codec)

    def _dumped(self, value: Any) -> dict[str, Any]:
        try:
            dumped: dict[str, Any] = models().dump(value, self._codec)
        except TypeError as error:
            raise NotJson(task=self.name, argument="A field", problem=f"{error}.") from error
        return dumped

    @property
    def _codec(self) -> Codec | None:
        runtime = attached_to(self.app)
        # Without Flows nothing is stored, and without a database nothing is hidden.
        return None if runtime is None or runtime.settings.codec is None else runtime.codec

    def _fields(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > 1 or (args and not _has_fields(args[0])):
            raise self._by_position(*args)
        return models().over(self.Input, self._dumped(args[0] if args else {}), self._dumped(kwargs))  # type: ignore[no-any-return] # it is asked of pydantic

    def _remembered(self) -> dict[str, Any]:
        job, keys = current_job(), models().keys_of(self.Input)
        # Asked for no key, a memory gives all that it has.
        return {} if job is None or not keys else job.memory.read(*keys)

    def _model(self, fields: Mapping[str, Any]) -> Any:
        try:
            return models().make(self.Input, fields, self._codec)
        except ValueError as error:
            raise BadInput(task=self.name, problem=str(error)) from None

    def _data(self, result: Any) -> dict[str, Any] | None:
        """What it returned, as plain data, if that fits."""
        if self.Output is None:
            if result is not None:
                given = type(result).__name__
                problem = f"a {given}, though it is declared to return nothing"
                raise BadOutput(task=self.name, problem=problem)
            return None
        if not _has_fields(result):
            problem = f"a {type(result).__name__}, not the {self.Output.__name__} that it is declared to return"
            raise BadOutput(task=self.name, problem=problem)
        try:
            dumped = self._dumped(result)
            checked = models().make(self.Output, dumped, self._codec)
        except (ValueError, NotJson) as error:
            raise BadOutput(task=self.name, problem=str(error).rstrip(".")) from None
        return dumped if isinstance(result, self.Output) else self._dumped(checked)


class Contract(NamedTuple):
    """What a task takes and returns."""

    Input: Any
    #: None: nothing.
    Output: Any


def contract_of(function: Callable[..., Any], *, bound: bool) -> Contract:
    """Read the models off a function's annotations.

    Args:
        bound: whether its first parameter is the task.

    Raises:
        NotTyped: they say something else.
    """
    name = getattr(function, "__qualname__", repr(function))
    parameters = [*inspect.signature(function).parameters.values()][1 if bound else 0 :]
    try:
        hints = get_type_hints(function)
    except NameError as error:
        problem = f"its annotations can't be read ({error}): define its models in a module, not in a function"
        raise NotTyped(task=name, problem=problem) from error
    if len(parameters) != 1:
        problem = f"it must take one model, and takes {len(parameters)} parameters"
        raise NotTyped(task=name, problem=problem)
    takes, returns = hints.get(parameters[0].name), hints.get("return", inspect.Parameter.empty)
    if not models().is_model(takes):
        problem = f"its parameter {parameters[0].name!r} must be annotated with a pydantic model"
        raise NotTyped(task=name, problem=problem)
    if returns is not type(None) and not models().is_model(returns):
        problem = "it must be annotated with what it returns: a pydantic model, or None"
        raise NotTyped(task=name, problem=problem)
    return Contract(takes, None if returns is type(None) else returns)


def _has_fields(value: Any) -> bool:
    return isinstance(value, Mapping) or models().is_model(type(value))


def models() -> Any:
    """What is asked of pydantic.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        from celery_flows import models as found  # noqa: PLC0415  # it stands on an extra
    except ModuleNotFoundError as error:
        problem = "Typed tasks and templates stand on pydantic 2: pip install 'celery-flows[typed]'"
        raise ConfigurationError(problem=problem) from error
    return found


@overload
def typed_task(function: Callable[[I], O], /) -> TypedTask[I, O]: ...
@overload
def typed_task(*, bind: Literal[True], **options: Any) -> Callable[[Callable[[Any, I], O]], TypedTask[I, O]]: ...
@overload
def typed_task(
    *, bind: Literal[False] = False, **options: Any
) -> Callable[[Callable[[I], O]], TypedTask[I, O]]: ...
def typed_task(function: Any = None, /, *, bind: bool = False, **options: Any) -> Any:
    """Make a typed task of a function that takes one pydantic model, and returns another or None.

    As `shared_task`, it belongs to every app. See TypedTask for how it is called.

    Args:
        function: what it does.
        bind: whether the function's first parameter is the task.
        options: anything that Celery's decorator takes, and `remember`.

    Raises:
        NotTyped: the annotations say something else.
        ConfigurationError: pydantic is not installed.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        contract = contract_of(function, bound=bind)
        return share_function(function, _typed, bind=bind, **contract._asdict(), **options)

    return decorate if function is None else decorate(function)


def _typed(base: type) -> type:
    """A base class of the user's with ours in front of it."""
    if issubclass(base, TypedTask):
        return base
    return TypedTask if issubclass(TypedTask, base) else type("TypedTask", (TypedTask, base), {"abstract": True})
