"""Django's admin: people and nodes are edited here; runs and what they report are only looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from orchestrator.models import (
    ApiToken,
    Attempt,
    Checkpoint,
    Dataset,
    Event,
    LoginLink,
    Node,
    Run,
    User,
)

if TYPE_CHECKING:
    from django.http import HttpRequest


class ReadOnly(admin.ModelAdmin):
    """Facts that the services keep together: editing one of them here would break the rest."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes here."""
        return False


@admin.register(User)
class PersonAdmin(UserAdmin):
    """Accounts with their role."""

    list_display = ("username", "email", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    fieldsets = (*UserAdmin.fieldsets, ("Anneal", {"fields": ("role",)}))
    add_fieldsets = (*UserAdmin.add_fieldsets, ("Anneal", {"fields": ("role",)}))


@admin.register(Node)
class NodeAdmin(ReadOnly):
    """Machines; they are invited, drained and revoked on the nodes page."""

    list_display = (
        *("name", "slots", "local", "drained", "cordoned"),
        *("last_seen", "joined", "revoked", "removed"),
    )
    list_filter = ("drained", "cordoned", "local")
    exclude = ("token_digest",)


@admin.register(Run)
class RunAdmin(ReadOnly):
    """Runs."""

    list_display = ("name", "id", "state", "owner", "node", "attempt", "step", "created")
    list_filter = ("state", "kind")
    search_fields = ("name", "id", "owner__username")
    list_select_related = ("owner", "node")


@admin.register(Attempt)
class AttemptAdmin(ReadOnly):
    """Process starts of runs."""

    list_display = ("run", "number", "node", "dispatched", "claimed", "ended", "cause", "exit_code")
    list_filter = ("cause",)
    search_fields = ("run__id", "run__name")
    list_select_related = ("run", "node")
    exclude = ("lease_digest",)


@admin.register(Event)
class EventAdmin(ReadOnly):
    """What happened to runs."""

    list_display = ("time", "run", "attempt", "source", "type")
    list_filter = ("source", "type")
    search_fields = ("run__id", "run__name")
    list_select_related = ("run",)
    show_full_result_count = False


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnly):
    """Saved weights."""

    list_display = ("run", "step", "attempt", "final", "bytes", "created", "deleted")
    search_fields = ("run__id", "run__name", "id")
    list_select_related = ("run",)


@admin.register(Dataset)
class DatasetAdmin(ReadOnly):
    """Uploaded rows."""

    list_display = ("name", "rows", "bytes", "owner", "created")
    search_fields = ("name", "id")
    list_select_related = ("owner",)


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly):
    """Tokens of scripts; an admin may delete one, nobody can read it."""

    list_display = ("user", "name", "scope", "created", "last_used", "revoked")
    list_select_related = ("user",)
    exclude = ("digest",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting a token locks its script out."""
        return request.user.is_superuser


@admin.register(LoginLink)
class LoginLinkAdmin(ReadOnly):
    """One-time links."""

    list_display = ("user", "expires", "used")
    list_select_related = ("user",)
    exclude = ("digest",)
