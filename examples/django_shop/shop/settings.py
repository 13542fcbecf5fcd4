"""The project's settings: celery-flows needs its app, and nothing else."""

import json
import os
from pathlib import Path

SECRET_KEY = "an example's"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
STATIC_URL = "static/"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "celery_flows.contrib.django",
    "orders",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

_FILE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": str(Path(__file__).parents[1] / "shop.sqlite3"),
    # A transaction that is to write says so when it begins, and waits for its turn.
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30},
}

DATABASES = {"default": json.loads(os.environ.get("SHOP_DATABASE", "null")) or _FILE}
DATABASES["default"]["ATOMIC_REQUESTS"] = True

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://localhost/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
