"""What pydantic is asked: to dump a model for a message, to make one of what came, and what was wrong with it.

The one module that stands on pydantic, which is an extra; who needs it imports it when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import AliasChoices, BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

M = TypeVar("M", bound=BaseModel)

#: What stands in a message for the value of a secret field: a mapping with this key alone.
_SECRET: Final = "celery-flows:secret"

_SECRETS: Final = (SecretStr, SecretBytes, Secret)

_ANY: Final = TypeAdapter(Any)

#: Makes a text unreadable on its way into a message, or readable again.
Seal = Callable[[str], str]


def is_model(value: object) -> bool:
    """Whether it is a class of models."""
    return isinstance(value, type) and issubclass(value, BaseModel)


def dump(value: Any, seal: Seal | None) -> Any:
    """Make plain JSON data of anything with models in it.

    Args:
        seal: hides what secret fields hold; None: that goes as it is.

    Raises:
        TypeError: it holds something that JSON can't.
    """
    if isinstance(value, BaseModel):
        asked = {"round_trip": True}
        return _revealed(value.model_dump(mode="json", **asked), value.model_dump(**asked), seal)  # type: ignore[arg-type] # flags
    try:
        return _revealed(_ANY.dump_python(value, mode="json"), _ANY.dump_python(value), seal)
    except PydanticSerializationError as error:
        raise TypeError(str(error)) from error


def _revealed(data: Any, original: Any, seal: Seal | None) -> Any:
    """Data with its secrets in it, which pydantic writes as asterisks."""
    if isinstance(original, _SECRETS):
        text = to_json(original.get_secret_value()).decode()
        return {_SECRET: text if seal is None else seal(text)}
    if isinstance(data, dict) and isinstance(original, Mapping):
        pairs = zip(data.items(), original.values(), strict=True)
        return {key: _revealed(value, one, seal) for (key, value), one in pairs}
    if isinstance(data, list) and isinstance(original, (list, tuple, set, frozenset)):
        return [_revealed(value, one, seal) for value, one in zip(data, original, strict=True)]
    return data


def open_secrets(data: Any, unseal: Seal | None) -> Any:
    """Data as it is validated: with what secret fields hold."""
    if isinstance(data, dict):
        if data.keys() == {_SECRET}:
            text = data[_SECRET] if unseal is None else unseal(data[_SECRET])
            return TypeAdapter(Any).validate_json(text)
        return {key: open_secrets(value, unseal) for key, value in data.items()}
    if isinstance(data, list):
        return [open_secrets(value, unseal) for value in data]
    return data


def make(model: type[M], data: Mapping[str, Any], unseal: Seal | None = None) -> M:
    """Make a model of plain data, by the names of its fields or their aliases.

    Raises:
        ValueError: it does not fit: which fields, by which rules, and of what types they were; never a value of a
            secret field.
    """
    try:
        text = to_json(open_secrets(dict(data), unseal))
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
    inner = [field.annotation for field in getattr(annotation, "model_fields", {}).values()]
    return any(_holds_secret(one, (*seen, annotation)) for one in [*get_args(annotation), *inner])


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
