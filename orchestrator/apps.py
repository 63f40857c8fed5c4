"""Register the one Django app of the project, and its admin site."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class OrchestratorConfig(AppConfig):
    """The app labelled `orchestrator`."""

    name = "orchestrator"
    label = "orchestrator"
    verbose_name = "Anneal"
    default_auto_field = "django.db.models.BigAutoField"


class AdminSiteConfig(AdminConfig):
    """Django's admin, opened by our roles."""

    default_site = "orchestrator.admin_site.RoleSite"
