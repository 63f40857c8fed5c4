"""Which page, route or file answers which URL."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path

from orchestrator.api.interface import api
from orchestrator.api.problems import not_found
from orchestrator.api.scrape import metrics
from orchestrator.views.login import admin_door

urlpatterns = [
    path("api/", api.urls),
    re_path(r"^api/.*$", not_found, name="api-nothing"),
    path("metrics", metrics, name="metrics"),
    # One way in for everybody: the admin has no login page of its own.
    path("admin/login/", admin_door),
    path("admin/", admin.site.urls),
    path("", include("orchestrator.views.urls")),
]
