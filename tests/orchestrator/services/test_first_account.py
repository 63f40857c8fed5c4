"""A new installation has one admin who comes in by a link; an old one is left alone."""

from __future__ import annotations

import pytest

from orchestrator.models import Role, User
from orchestrator.services.first_account import admin_password_exists, first_admin_ensure

pytestmark = pytest.mark.django_db


def test_a_new_installation_gets_an_admin_without_a_password():
    admin = first_admin_ensure()
    assert (admin.username, admin.role, admin.is_staff) == ("admin", Role.ADMIN, True)
    assert not admin.has_usable_password()
    assert first_admin_ensure() == admin
    assert User.objects.count() == 1


def test_where_there_are_users_nobody_is_added():
    User.objects.create_user("ada", role=Role.VIEWER)
    assert first_admin_ensure() is None
    assert User.objects.count() == 1


def test_an_admin_with_a_password_is_noticed():
    admin = first_admin_ensure()
    assert not admin_password_exists()
    admin.set_password("correct horse battery staple")
    admin.save()
    assert admin_password_exists()
    admin.is_active = False
    admin.save()
    assert not admin_password_exists()
