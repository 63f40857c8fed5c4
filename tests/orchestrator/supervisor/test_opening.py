"""Other machines are let in only where a password and host names keep strangers out."""

from __future__ import annotations

import pytest

from orchestrator.models import Role, User
from orchestrator.supervisor.opening import host_names_check, host_password_check


def test_this_machine_alone_needs_neither(db, monkeypatch):
    monkeypatch.delenv("ANNEAL_ALLOWED_HOSTS", raising=False)
    host_names_check("127.0.0.1")
    host_password_check("127.0.0.1")


def test_other_machines_need_host_names(monkeypatch):
    monkeypatch.delenv("ANNEAL_ALLOWED_HOSTS", raising=False)
    with pytest.raises(ValueError, match="set ANNEAL_ALLOWED_HOSTS"):
        host_names_check("10.0.0.5")
    monkeypatch.setenv("ANNEAL_ALLOWED_HOSTS", "anneal.example.org")
    host_names_check("10.0.0.5")


def test_other_machines_need_an_admin_with_a_password(db):
    admin = User.objects.create_user("admin", role=Role.ADMIN)
    with pytest.raises(ValueError, match="changepassword admin"):
        host_password_check("10.0.0.5")
    admin.set_password("correct horse battery staple")
    admin.save()
    host_password_check("10.0.0.5")
