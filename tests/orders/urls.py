"""The pages of the project for tests."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
    # Browsers ask for it unasked, and complain if it is missing.
    path("favicon.ico", lambda _: HttpResponse(status=204)),
]
