"""The admin: every list opens, facts of runs cannot be edited, and no digest is shown."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.urls import reverse

from orchestrator.models import Node, Run, User
from orchestrator.services.tokens import api_token_create

OURS = [model for model in admin.site._registry if model._meta.app_label == "orchestrator"]


@pytest.fixture
def root(client, db):
    user = User.objects.create_superuser("root", password="correct horse", role="admin")
    client.force_login(user)
    return user


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_list_opens(client, root, run, model):
    api_token_create(user=root)
    address = reverse(f"admin:orchestrator_{model._meta.model_name}_changelist")
    assert client.get(address).status_code == 200


@pytest.mark.parametrize("model", [Run, Node])
def test_facts_are_looked_at_and_not_edited(client, root, run, model):
    found = run if model is Run else run.node
    address = reverse(f"admin:orchestrator_{model._meta.model_name}_change", args=[found.pk])
    page = client.get(address)
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert client.post(address, {"name": "changed"}).status_code == 403
    digest = Node.objects.get().token_digest
    assert digest.encode() not in page.content
