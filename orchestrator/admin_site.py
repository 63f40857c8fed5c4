"""Who enters Django's admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

if TYPE_CHECKING:
    from django.http import HttpRequest


class RoleSite(admin.AdminSite):
    """The admin for admins by role, and for whom they made staff; what staff sees is a matter of permissions."""

    site_title = "Anneal"
    index_title = "Everything that is stored"

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the door opens."""
        return bool(getattr(request.user, "may_enter_admin", False))
