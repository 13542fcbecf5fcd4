"""What pydantic is asked: to dump a model for a message, to make one of what came, and what was wrong with it.

The one module that stands on pydantic, which is an extra; who needs it imports it when it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any, Final, TypeVar, get_args, get_type_hints

from pydantic import (
    AliasChoices,
    BaseModel,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import is_typeddict  # pydantic stands on it, and so may a user's typed dicts

from celery_flows.codec import Codec, seal, unseal

M = TypeVar("M", bound=BaseModel)

#: What stands in a message for the value of a secret field: a mapping with this key alone.
_SECRET: Final = "celery-flows:secret"

_SECRETS: Final = (SecretStr, SecretBytes, Secret)

_ANY: Final = TypeAdapter(Any)


def is_model(value: object) -> bool:
    """Whether it is a class of models that have fields."""
    return isinstance(value, type) and issubclass(value, BaseModel) and not issubclass(value, RootModel)


def dump(value: Any, codec: Codec | None) -> Any:
    """Make plain JSON data of anything with models in it.

    Args:
        codec: hides what secret fields hold; None: that goes as it is.

    Raises:
        TypeError: it holds something that JSON can't.
    """
    # What a model computes is no field of it. What does not fit is seen where a model is made of it again; a
    # warning would say it.
    try:
        data = _ANY.dump_python(value, mode="json", round_trip=True, warnings=False)
        return _revealed(data, _ANY.dump_python(value, round_trip=True, warnings=False), codec)
    except PydanticSerializationError as error:
        raise TypeError(str(error)) from error


def _revealed(data: Any, original: Any, codec: Codec | None) -> Any:
    """Data with its secrets in it, which pydantic writes as asterisks."""
    if isinstance(original, _SECRETS):
        return {_SECRET: seal(codec, to_json(original.get_secret_value()).decode())}
    if isinstance(data, dict) and isinstance(original, Mapping):
        pairs = zip(data.items(), original.values(), strict=True)
        return {key: _revealed(value, one, codec) for (key, value), one in pairs}
    if isinstance(data, list) and isinstance(original, (list, tuple, set, frozenset)):
        return [_revealed(value, one, codec) for value, one in zip(data, original, strict=True)]
    return data


def _opened(data: Any, codec: Codec | None) -> Any:
    """Data as it is validated: with what secret fields hold."""
    if isinstance(data, dict):
        if data.keys() == {_SECRET}:
            return _opened(_ANY.validate_json(str(unseal(codec, data[_SECRET]))), codec)
        return {key: _opened(value, codec) for key, value in data.items()}
    if isinstance(data, list):
        return [_opened(value, codec) for value in data]
    return data


def hide(model: type[BaseModel], data: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    """Seal what plain data has for secret fields, where it was not made of a model."""
    secrets = {
        name
        for field_name, field in model.model_fields.items()
        if _holds_secret(field.annotation)
        for name in names_of(field_name, field)
    }
    shown = [name for name, value in data.items() if name in secrets and not _is_hidden(value)]
    return {**data, **{name: {_SECRET: seal(codec, to_json(data[name]).decode())} for name in shown}}


def _is_hidden(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.keys() == {_SECRET})


def make(model: type[M], data: Mapping[str, Any], codec: Codec | None = None) -> M:
    """Make a model of plain data, by the names of its fields or their aliases.

    Raises:
        ValueError: it does not fit: which fields, by which rules, and of what types they were; never a value of a
            secret field.
    """
    try:
        text = to_json(_opened(dict(data), codec))
    except PydanticSerializationError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    try:
        return model.model_validate_json(text, by_alias=True, by_name=True)
    except ValidationError as error:
        problems = [_problem(model, one) for one in error.errors(include_url=False, include_context=False)]
        # Not chained: the original says the values too.
        raise ValueError("; ".join(problems)) from None


def _problem(model: type[BaseModel], error: Any) -> str:
    where = ".".join(map(str, error["loc"])) or "the whole"
    given = "" if error["type"] == "missing" else f", got {type(error['input']).__name__}"
    # What a validator of the user's says may hold the value.
    hides = _is_secret(model, error["loc"])
    said = "" if hides else f"{error['msg']} "
    return f"{where}: {said}({error['type']}{given})"


def _is_secret(model: Any, loc: tuple[int | str, ...]) -> bool:
    fields = getattr(model, "model_fields", {})
    by_name = {name: field for field_name, field in fields.items() for name in names_of(field_name, field)}
    if not loc or loc[0] not in by_name:
        return any(_holds_secret(field.annotation) for field in fields.values())
    return _holds_secret(by_name[loc[0]].annotation)


def _holds_secret(annotation: Any, seen: tuple[Any, ...] = ()) -> bool:
    if annotation in seen:
        return False
    if isinstance(annotation, type) and issubclass(annotation, _SECRETS):
        return True
    return any(_holds_secret(one, (*seen, annotation)) for one in [*get_args(annotation), *_inside(annotation)])


def _inside(annotation: Any) -> Iterator[Any]:
    """What the fields of a model, a dataclass or a typed dict are declared to be."""
    for field in getattr(annotation, "model_fields", {}).values():
        yield field.annotation
    if is_dataclass(annotation) or is_typeddict(annotation):
        with suppress(NameError):
            yield from get_type_hints(annotation).values()


def names_of(name: str, field: Any) -> Iterator[str]:
    """By which names a field is given: its own, and its aliases."""
    yield name
    for alias in (field.alias, field.validation_alias):
        if isinstance(alias, str):
            yield alias
        elif isinstance(alias, AliasChoices):
            yield from (choice for choice in alias.choices if isinstance(choice, str))


def keys_of(model: type[BaseModel]) -> list[str]:
    """By which names the fields of a model are given."""
    fields = model.model_fields.items()
    return list(dict.fromkeys(name for field_name, field in fields for name in names_of(field_name, field)))


def over(model: type[BaseModel], below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What is given over what was there: a field that is given by one of its names is not there by another."""
    gone = {
        name
        for field_name, field in model.model_fields.items()
        if not above.keys().isdisjoint(names := set(names_of(field_name, field)))
        for name in names
    }
    return {**{name: value for name, value in below.items() if name not in gone}, **above}


def read_texts(model: type[BaseModel], texts: Mapping[str, str]) -> dict[str, Any]:
    """Values that were written by hand: as JSON, or as text, where that is no JSON or the field takes none."""
    values = {name: _json_or_text(text) for name, text in texts.items()}
    try:
        model.model_validate_json(to_json(values), by_alias=True, by_name=True)
    except ValidationError as error:
        refused = {one["loc"][0] for one in error.errors(include_url=False) if one["loc"]}
        return {name: texts[name] if name in refused else value for name, value in values.items()}
    return values


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def described(model: type[BaseModel], defaults: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a model as people read them, with what they are by default; never a secret.

    Args:
        defaults: what goes before the model's own.
    """
    for name, field in model.model_fields.items():
        is_said = name in defaults
        if not is_said and field.is_required():
            yield name
        elif (field.default_factory is not None and not is_said) or _holds_secret(field.annotation):
            yield f"{name}=..."
        else:
            yield f"{name}={(defaults[name] if is_said else field.default)!r}"
