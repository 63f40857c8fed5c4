"""People: accounts, their role, and what lets them in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models


class Role(models.TextChoices):
    """What a person may do: look, launch, or change everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


ROLE_RANK = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


class User(AbstractUser):
    """An account."""

    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)

    def has_role(self, role: str) -> bool:
        """Whether this account may do what `role` may."""
        return ROLE_RANK[Role(self.role)] >= ROLE_RANK[Role(role)]

    @property
    def may_enter_admin(self) -> bool:
        """Whether Django's admin opens: to admins, and to those whom one of them made staff."""
        return self.is_active and (self.is_staff or self.has_role(Role.ADMIN))

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """An admin may all; others what an admin has given them."""
        return self._is_admin or super().has_perm(perm, obj)

    def has_module_perms(self, app_label: str) -> bool:
        """The same for any permission of an app."""
        return self._is_admin or super().has_module_perms(app_label)

    @property
    def _is_admin(self) -> bool:
        return self.is_active and self.has_role(Role.ADMIN)


class Scope(models.TextChoices):
    """What a token may do: the smaller of its scope and its user's role counts."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


ROLE_OF_SCOPE = {Scope.READ: Role.VIEWER, Scope.OPERATE: Role.OPERATOR, Scope.ADMIN: Role.ADMIN}


class ApiToken(models.Model):
    """A key for scripts; only its SHA-256 is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, default="")
    scope = models.CharField(max_length=16, choices=Scope, default=Scope.READ)
    digest = models.CharField(max_length=64, unique=True)
    created = models.DateTimeField(auto_now_add=True)
    last_used = models.DateTimeField(null=True)
    revoked = models.DateTimeField(null=True)


class LoginLink(models.Model):
    """A one-time way in, valid for 15 minutes; only its SHA-256 is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    expires = models.DateTimeField()
    used = models.DateTimeField(null=True)
