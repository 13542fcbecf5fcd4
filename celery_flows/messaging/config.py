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
    values = {name: conf[PREFIX + name] for name in sorted(set(_given(conf)))}
    if url := os.environ.get(DATABASE_URL_VARIABLE):
        values["database_url"] = url
    return Settings.build(values)


def _given(conf: Any) -> Iterator[str]:
    conf.finalize()
    namespace = (conf.prefix or "").rstrip("_").lower()
    for layer in conf.maps:
        for key in _keys(layer):
            if name := _our_name(str(key), namespace):
                yield name


def _our_name(key: str, namespace: str) -> str | None:
    lower = key.lower()
    own = lower.removeprefix(f"{namespace}_") if namespace else lower
    if not own.startswith(PREFIX) or (namespace and own == lower and key.isupper()):
        return None
    name = own.removeprefix(PREFIX)
    check_name(name, PREFIX)
    return name


def _keys(layer: Any) -> list[str]:
    if isinstance(layer, Mapping):
        return list(layer)
    # Celery wraps a configuration object, such as Django's settings, so that it reads like a mapping.
    return [key for key in dir(getattr(layer, "obj", layer)) if not key.startswith("_")]
