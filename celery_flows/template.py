"""Templates: flows that are started by name, with params that are checked before anything is written."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

from celery_flows.batch import classes
from celery_flows.canvas import CanvasLauncher, canvas_launcher
from celery_flows.errors import BadParams, ConfigurationError, PlanInvalid, TemplateExists, UnknownTemplate
from celery_flows.flow import Flow, Launcher
from celery_flows.plan import FlowCall
from celery_flows.preview import Preview
from celery_flows.typed import models

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")
R = TypeVar("R")

#: What a file of defaults may say.
_SAID: Final = ("template", "name", "defaults")


@dataclass(frozen=True)
class Template:
    """A way to build a flow, under a name, with the model of its params.

    Made by `Template.register`, found by `Template.get`, and run by `Template.run`.
    """

    name: str
    #: The pydantic model of its params.
    input: Any
    #: Makes a flow of the params: a flow class, `SomeFlow.s(...)`, a canvas, or `Workflow.from_canvas(...)`.
    builder: Callable[[Any], Any] = field(repr=False)
    #: Params that hold where nothing else is said.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    _options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    _known: ClassVar[dict[str, Template]] = {}
    _loaded: ClassVar[dict[Path, Template]] = {}

    @overload
    @classmethod
    def register(
        cls, name: str, *, input: type[M], defaults: Mapping[str, Any] | None = ..., replace: bool = ...
    ) -> Callable[[Callable[[M], R]], Callable[[M], R]]: ...
    @overload
    @classmethod
    def register(
        cls,
        name: str,
        builder: Callable[[M], R],
        *,
        input: type[M],
        defaults: Mapping[str, Any] | None = ...,
        replace: bool = ...,
    ) -> Callable[[M], R]: ...
    @classmethod
    def register(
        cls,
        name: str,
        builder: Any = None,
        *,
        input: type[BaseModel],  # noqa: A002  # what it is called everywhere
        defaults: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> Any:
        """Register a builder, as a decorator or by a call.

        Args:
            name: what to run it by.
            builder: called with the params; gives a flow class, `SomeFlow.s(...)`, or a canvas.
            input: the pydantic model of the params.
            defaults: params that hold where nothing else is said.
            replace: whether it may take the place of another.

        Raises:
            TemplateExists: there is another with this name.
            BadParams: the model has no such param as a default is for.
            ConfigurationError: `input` is no pydantic model, or pydantic is not installed.
        """
        if not models().is_model(input):
            problem = f"Template {name!r}: input= takes a pydantic model that has fields, not {input!r}"
            raise ConfigurationError(problem=problem)

        def keep(builder: Callable[[Any], Any]) -> Callable[[Any], Any]:
            made = cls(name, input, builder, {})._with(defaults or {})
            made._put(replace=replace)
            return builder

        return keep if builder is None else keep(builder)

    def _put(self, *, replace: bool) -> None:
        there = self._known.get(self.name)
        if there is not None and not replace:
            builder = f"{there.builder.__module__}.{getattr(there.builder, '__qualname__', there.builder)}"
            raise TemplateExists(name=self.name, builder=builder)
        self._known[self.name] = self

    @classmethod
    def get(cls, name: str) -> Template:
        """Find a template.

        Raises:
            UnknownTemplate: there is none; it says the nearest names.
        """
        found = cls._known.get(name)
        if found is None:
            near = difflib.get_close_matches(name, cls._known, n=3)
            nearest = f" (did you mean {' or '.join(map(repr, near))}?)" if near else _among(cls.names())
            raise UnknownTemplate(name=name, nearest=nearest)
        return found

    @classmethod
    def names(cls) -> list[str]:
        """The names of all templates."""
        return sorted(cls._known)

    @classmethod
    def run(cls, name: str, params: Any = None, /, **overrides: Any) -> Flow:
        """Start a flow from a template.

        Args:
            name: the template's.
            params: a mapping, or its model.
            overrides: params by name, which go before those.

        Returns:
            The flow, whose run remembers the params.

        Raises:
            UnknownTemplate: there is none of this name.
            BadParams: the params don't fit; nothing was written.
            PlanInvalid: what its builder gives can't be started.
        """
        return cls.get(name).start(params, **overrides)

    @classmethod
    def load(cls, path: str | Path) -> Template:
        """Read defaults from a YAML or TOML file, once: which template, and which defaults.

        The file says `template`, the name of one that is registered; `defaults`, a mapping of params; and, if what
        comes of it is to be found by a name of its own, `name`.

        Raises:
            ConfigurationError: the file says something else, or PyYAML is not installed.
            UnknownTemplate: there is none of this name.
            BadParams: the template has no such param.
        """
        path = Path(path).resolve()
        if path not in cls._loaded:
            said = _read(path)
            made = cls.get(said["template"])._with(said.get("defaults") or {})
            if said.get("name") is not None:
                made = replace(made, name=said["name"])
                made._put(replace=False)
            cls._loaded[path] = made
        return cls._loaded[path]

    def using(self, **options: Any) -> Template:
        """Say more about the flows that it starts: description, tags and the like, as `Flow.using`."""
        return replace(self, _options={**self._options, **options})

    def start(self, params: Any = None, /, **overrides: Any) -> Flow:
        """Start a flow; as `run`."""
        launcher, args, kwargs, given = self._built(params, overrides)
        started: Flow = launcher.remembering(given).start(*args, **kwargs)
        return started

    def preview(self, params: Any = None, /, **overrides: Any) -> Preview:
        """Plan a flow, and run nothing.

        Raises:
            BadParams: the params don't fit.
        """
        launcher, args, kwargs, _ = self._built(params, overrides)
        return launcher.preview(*args, **kwargs)

    def _built(
        self, params: Any, overrides: Mapping[str, Any]
    ) -> tuple[Launcher[Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        model = self._model(params, overrides)
        built = self.builder(model)
        # Its jobs find its params, also where it is started inside another batch, beside others like it.
        options = {"description": self.name, "memory": "own", **self._options}
        given = models().dump(model, None)
        if isinstance(built, CanvasLauncher):
            return built.using(**options), (), {}, given
        if isinstance(built, dict):
            return canvas_launcher(built).using(**options), (), {}, given
        call = built.s() if isinstance(built, type) and issubclass(built, Flow) else built
        if not isinstance(call, FlowCall):
            started = f": {type(built).__name__}.s(...) in place of .start(...)" if isinstance(built, Flow) else ""
            problem = f"the builder of template {self.name!r} must give a flow class, SomeFlow.s(...) or a canvas"
            raise PlanInvalid(problem=f"{problem}, and gave {built!r}{started}")
        flow: type[Flow] = classes[call.flow]  # type: ignore[assignment] # it is a flow's name
        return flow.using(**options), tuple(call.args), dict(call.kwargs), given

    def _model(self, params: Any, overrides: Mapping[str, Any]) -> Any:
        try:
            is_model = models().is_model(type(params))
            said = params.model_dump(exclude_unset=True, round_trip=True) if is_model else dict(params or {})
        except (TypeError, ValueError):
            problem = f"params are a mapping or a {self.input.__name__}, not {params!r}"
            raise BadParams(name=self.name, problem=problem) from None
        try:
            over = models().over
            given = over(self.input, over(self.input, self.defaults, said), overrides)
            return models().make(self.input, models().dump(given, None))
        except (TypeError, ValueError) as error:
            raise BadParams(name=self.name, problem=str(error)) from None

    def _with(self, defaults: Mapping[str, Any]) -> Template:
        known, is_open = models().keys_of(self.input), self.input.model_config.get("extra") == "allow"
        wrong = [name for name in defaults if name not in known and not is_open]
        if wrong:
            problem = f"there is no param {wrong[0]!r}; there are {', '.join(known)}"
            raise BadParams(name=self.name, problem=problem)
        return replace(self, defaults=models().over(self.input, self.defaults, defaults))


def read_texts(template: Template, texts: Mapping[str, str]) -> dict[str, Any]:
    """Params that were written by hand: as JSON, or as text, where that is no JSON or the param takes none."""
    found: dict[str, Any] = models().read_texts(template.input, texts)
    return found


def describe(template: Template) -> str:
    """A template as people read it: its name and params, with what they are by default."""
    return f"{template.name}({', '.join(models().described(template.input, template.defaults))})"


def _read(path: Path) -> dict[str, Any]:
    said = read_params(path)
    is_right = isinstance(said.get("template"), str) and not said.keys() - set(_SAID)
    if not is_right or not isinstance(said.get("defaults") or {}, dict):
        problem = f"{path} must say template (a name), defaults (a mapping) and perhaps name, and nothing else"
        raise ConfigurationError(problem=problem)
    return said


def read_params(path: Path) -> dict[str, Any]:
    """Read a mapping from a TOML, JSON or YAML file.

    Raises:
        ConfigurationError: it holds something else, or PyYAML is not installed.
    """
    text = path.read_text(encoding="utf-8")
    load = {".toml": tomllib.loads, ".json": json.loads}.get(path.suffix, _load_yaml)
    try:
        found = load(text)
    except ValueError as error:
        raise ConfigurationError(problem=f"{path} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(problem=f"{path} must hold names and values, not a {type(found).__name__}")
    return found


def _among(names: list[str]) -> str:
    return f" among {names}" if names else ", nor any other"


def _load_yaml(text: str) -> Any:
    try:
        import yaml  # an optional dependency
    except ModuleNotFoundError as error:
        problem = "Reading YAML takes PyYAML: pip install 'celery-flows[yaml]'. TOML and JSON need nothing more"
        raise ConfigurationError(problem=problem) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
