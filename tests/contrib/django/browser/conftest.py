"""The admin of a Django project, served to a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import Person, chromium
from celery import Celery, _state
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.test import Client
from django.test.testcases import LiveServerThread
from django.test.utils import override_settings
from djangos import django_app, emptied, meant, migrated


@pytest.fixture(scope="package")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests: to start it takes longer than most of them."""
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="package")
def site() -> Iterator[str]:
    """The address of the project, whose pages may run nothing but their own files' scripts."""
    migrated("default")
    careful = ["django.middleware.csrf.CsrfViewMiddleware", "orders.policy.strict_policy"]
    quick = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    middleware = [*careful, *settings.MIDDLEWARE]
    with override_settings(ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=middleware, PASSWORD_HASHERS=quick):
        server = LiveServerThread("127.0.0.1", StaticFilesHandler)
        server.daemon = True
        server.start()
        assert server.is_ready.wait(20)
        assert server.error is None
        yield f"http://127.0.0.1:{server.port}"
        server.terminate()


@pytest.fixture
def app(site: str) -> Iterator[Celery]:
    """The project's Celery app, which the server's threads find as well."""
    before = _state.default_app
    with meant("default"), django_app("default") as app:
        app.set_default()
        yield app
        _state.default_app = before
        LogEntry.objects.all().delete()
        User.objects.all().delete()
        emptied("default")


@pytest.fixture
def stranger(app: Celery, chrome: Any, site: str, tmp_path: Path) -> Iterator[Person]:
    """Somebody whom the site does not know yet; at the end the browser must have had nothing to complain of."""
    person = Person(chrome, site, tmp_path)
    yield person
    complaints = person.complaints()
    person.forget()
    assert complaints == []


@pytest.fixture
def welcome(stranger: Person) -> Callable[..., Person]:
    """Let somebody in: call it with permissions, or with none for one who may do everything."""

    def let_in(*permissions: str) -> Person:
        user = User.objects.create_user("ann", is_staff=True, is_superuser=not permissions)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        # A cookie can be given only to a site that is open.
        stranger.go("/admin/login/")
        cookie = {
            "name": settings.SESSION_COOKIE_NAME,
            "value": client.cookies[settings.SESSION_COOKIE_NAME].value,
        }
        stranger.chrome.add_cookie(cookie)
        return stranger

    return let_in


@pytest.fixture
def ann(welcome: Callable[..., Person]) -> Person:
    """Somebody who may do everything."""
    return welcome()
