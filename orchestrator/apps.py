"""Register the one Django app of the project."""

from __future__ import annotations

from django.apps import AppConfig


class OrchestratorConfig(AppConfig):
    """The app labelled `orchestrator`."""

    name = "orchestrator"
    label = "orchestrator"
    verbose_name = "Anneal"
    default_auto_field = "django.db.models.BigAutoField"
