"""Reading our settings out of `app.conf`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from celery_flows.settings import DATABASE_URL_VARIABLE, PREFIX, Settings, check_name


def read_settings(conf: Any) -> Settings:
    """Read and check every `flows_*` key, from wherever the app is configured.

    Raises:
        UnknownSetting: a key has our prefix, but no setting has its name.
        InvalidSetting: a value has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    if url := os.environ.get(DATABASE_URL_VARIABLE):
        values["database_url"], keys["database_url"] = url, DATABASE_URL_VARIABLE
    for name, key, value in _given(conf):
        check_name(name, key)
        if name not in values:
            values[name], keys[name] = value, key
    return Settings.build(values, keys)


def _given(conf: Any) -> Iterator[tuple[str, str, Any]]:
    """Our settings in each layer of the configuration, the first layer going first: name, key, value."""
    conf.finalize()
    namespace = (conf.prefix or "").rstrip("_").lower()
    for layer in conf.maps:
        for key in _keys(layer):
            name = _our_name(key, namespace)
            if name is not None:
                yield name, key, layer[key]


def _our_name(key: str, namespace: str) -> str | None:
    lower = key.lower()
    own = lower.removeprefix(f"{namespace}_") if namespace else lower
    # In a namespace, another's capitals are not ours: Django's settings hold every app's.
    is_ours = own.startswith(PREFIX) and not (namespace and own == lower and key.isupper())
    return own.removeprefix(PREFIX) if is_ours else None


def _keys(layer: Any) -> list[str]:
    if isinstance(layer, Mapping):
        return [key for key in layer if isinstance(key, str)]
    # Celery wraps a configuration object, such as Django's settings, so that it reads like a mapping.
    return [key for key in dir(getattr(layer, "obj", layer)) if not key.startswith("_")]
