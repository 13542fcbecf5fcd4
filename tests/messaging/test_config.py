"""Where settings may stand: keyword arguments, app.conf, configuration objects and modules, the environment."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from apps import plain_app, runtime_of

from celery_flows import Flows
from celery_flows.errors import ConfigurationError, InvalidSetting, UnknownSetting
from celery_flows.settings import DATABASE_URL_VARIABLE

URL = "sqlite:///somewhere.sqlite3"


def settings_of(app: Any) -> Any:
    """The settings, as read at first use."""
    return runtime_of(app).settings


def as_dict(**values: Any) -> Any:
    """A dictionary."""
    return values


def as_object(**values: Any) -> Any:
    """An object with attributes."""
    return types.SimpleNamespace(**values)


def as_module(**values: Any) -> Any:
    """The name of a module."""
    module = types.ModuleType("flows_test_configuration")
    vars(module).update(values)
    sys.modules[module.__name__] = module
    return module.__name__


def as_django(**values: Any) -> Any:
    """Django's settings."""
    from django.conf import UserSettingsHolder, global_settings

    holder = UserSettingsHolder(global_settings)
    for name, value in values.items():
        setattr(holder, name, value)
    return holder


SOURCES = [
    pytest.param(as_dict, None, "flows_", id="dict"),
    pytest.param(as_object, None, "flows_", id="object"),
    pytest.param(as_module, None, "flows_", id="module"),
    pytest.param(as_module, None, "FLOWS_", id="module in capitals"),
    pytest.param(as_dict, "CELERY", "CELERY_FLOWS_", id="namespace"),
    pytest.param(as_django, "CELERY", "CELERY_FLOWS_", id="Django"),
    pytest.param(as_object, "jobs", "jobs_flows_", id="small namespace"),
]


def spelled(prefix: str, name: str) -> str:
    """A setting's name as it is written there."""
    return prefix + (name.upper() if prefix.isupper() else name)


def configured(source: Any, namespace: str | None, **values: Any) -> Any:
    """An app with Flows and such a configuration."""
    app = plain_app()
    Flows(app)
    app.config_from_object(source(**values), namespace=namespace)
    return app


@pytest.mark.parametrize(("source", "namespace", "prefix"), SOURCES)
def test_every_source_is_read(source: Any, namespace: str | None, prefix: str) -> None:
    """A setting may stand in whatever an app is configured by, spelled as Celery's own are there."""
    values = {spelled(prefix, "database_url"): URL, spelled(prefix, "chunk_size"): 7}
    settings = settings_of(configured(source, namespace, **values))
    assert (settings.database_url, settings.chunk_size, settings.lease_timeout) == (URL, 7, 60.0)


@pytest.mark.parametrize(("source", "namespace", "prefix"), SOURCES)
def test_every_source_is_checked(source: Any, namespace: str | None, prefix: str) -> None:
    """Unknown names and wrong types are refused under the key that the user wrote."""
    unknown, wrong = spelled(prefix, "chunksize"), spelled(prefix, "chunk_size")
    with pytest.raises(UnknownSetting, match=f"'{unknown}'. Did you mean {wrong}?"):
        settings_of(configured(source, namespace, **{unknown: 7}))
    with pytest.raises(InvalidSetting, match=f"'{wrong}' is 'seven', but must be a whole number from 1"):
        settings_of(configured(source, namespace, **{wrong: "seven"}))


def test_keyword_arguments_are_checked_at_once() -> None:
    """What is given to Flows or init_app is refused there, not at first use."""
    with pytest.raises(UnknownSetting, match=r"'chunksize'. Did you mean chunk_size?"):
        Flows(chunksize=7)
    with pytest.raises(InvalidSetting, match=r"'chunk_size' is 'seven'"):
        Flows(plain_app(), chunk_size="seven")
    with pytest.raises(InvalidSetting, match=r"'chunk_size' is 0"):
        Flows().init_app(plain_app(), chunk_size=0)


def test_settings_that_hang_together_may_stand_apart() -> None:
    """What one source says is judged with what the others say, once all are read."""
    app = plain_app()
    Flows(app, lease_timeout=9)
    app.conf.flows_heartbeat_interval = 3
    assert settings_of(app).lease_timeout == 9
    app = plain_app()
    Flows(app, lease_timeout=9)
    with pytest.raises(InvalidSetting, match=r"'flows_lease_timeout' is 9, but must be at least three times"):
        settings_of(app)


def test_conf_is_checked_at_first_use() -> None:
    """What is written into app.conf is refused when settings are first asked for."""
    app = plain_app()
    Flows(app)
    app.conf.flows_databse_url = URL
    with pytest.raises(UnknownSetting, match=r"'flows_databse_url'. Did you mean flows_database_url?"):
        settings_of(app)


def test_other_apps_settings_in_djangos_are_not_ours() -> None:
    """With a namespace, a setting of somebody else that begins with FLOWS_ is left alone."""
    app = configured(as_django, "CELERY", FLOWS_CHUNKSIZE=7, CELERY_FLOWS_DATABASE_URL=URL)
    assert settings_of(app).database_url == URL


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """CELERY_FLOWS_DATABASE_URL goes before every other source, unless it is empty."""
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "sqlite:///of-the-environment.sqlite3")
    app = plain_app()
    Flows(app, database_url=URL)
    assert settings_of(app).database_url == "sqlite:///of-the-environment.sqlite3"
    monkeypatch.setenv(DATABASE_URL_VARIABLE, "")
    app = plain_app()
    Flows(app, database_url=URL)
    assert settings_of(app).database_url == URL


def test_keyword_arguments_go_before_the_configuration() -> None:
    """What is written in code goes before a configuration object, as with Celery's own settings."""
    app = plain_app()
    Flows(app, chunk_size=3)
    app.config_from_object({"flows_chunk_size": 5, "flows_lease_timeout": 99})
    assert (settings_of(app).chunk_size, settings_of(app).lease_timeout) == (3, 99)


def test_no_database_says_how_to_name_one() -> None:
    """Without a database, first use says the three places to name it."""
    app = plain_app()
    Flows(app)
    with pytest.raises(
        ConfigurationError, match=r"Flows\(app, database_url.*app\.conf\.flows_database_url.*CELERY_FLOWS_"
    ):
        _ = runtime_of(app).database
