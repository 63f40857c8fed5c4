"""Django's admin: people are edited here; runs, models, machines and what they report are only looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from orchestrator.admin_pages import comparisons, datasets, nodes, registry, runs, votes
from orchestrator.admin_pages.read_only import ReadOnly
from orchestrator.models import ApiToken, LoginLink, Role, User

if TYPE_CHECKING:
    from django.http import HttpRequest

PAGES = (comparisons, datasets, nodes, registry, runs, votes)
"""Modules that register the pages of the product's own things."""


@admin.register(User)
class PersonAdmin(UserAdmin):
    """Accounts with their role."""

    list_display = ("username", "email", "role", "is_active", "last_login")
    list_filter = ("role", "is_active")
    fieldsets = (*UserAdmin.fieldsets, ("Anneal", {"fields": ("role",)}))
    add_fieldsets = (*UserAdmin.add_fieldsets, ("Anneal", {"fields": ("role",)}))


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly):
    """Tokens of scripts; an admin may delete one, nobody can read it."""

    list_display = ("user", "name", "scope", "created", "last_used", "revoked")
    list_select_related = ("user",)
    exclude = ("digest",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting a token locks its script out."""
        return request.user.has_role(Role.ADMIN)


@admin.register(LoginLink)
class LoginLinkAdmin(ReadOnly):
    """One-time links."""

    list_display = ("user", "expires", "used")
    list_select_related = ("user",)
    exclude = ("digest",)
