"""Give a new installation its first account."""

from __future__ import annotations

from orchestrator.models import Role, User


def first_admin_ensure() -> User | None:
    """Create `admin` when there is no user; return the oldest admin who may sign in."""
    if not User.objects.exists():
        # Without a password: a login link opens this account, `changepassword admin` gives it one.
        User.objects.create_superuser("admin", password=None, role=Role.ADMIN)
    return User.objects.filter(role=Role.ADMIN, is_active=True).order_by("pk").first()


def admin_password_exists() -> bool:
    """Say whether some admin can sign in with a password."""
    admins = User.objects.filter(role=Role.ADMIN, is_active=True)
    return any(admin.has_usable_password() for admin in admins)
