"""Clone and fork by REST."""

from __future__ import annotations

import pytest

from orchestrator.models import Checkpoint, Run


@pytest.fixture
def parent(ada):
    from orchestrator.services.runs import run_create
    from tests.orchestrator.conftest import SPEC

    spec = {**SPEC, "model": {"name": "starter", "warm_start": "noisy_sort_sft"}}
    return run_create(owner=ada, spec=spec, tags=["t"], recipe="r")


def post(client, path, headers, **body):
    return client.post(f"/api/runs/{path}", body, content_type="application/json", headers=headers)


def test_a_clone_is_the_same_run_once_more_with_changes(client, parent, bob, bearer):
    answer = post(
        client,
        f"{parent.pk}/clone",
        bearer(bob, "operate"),
        changes={"optimizer.lr": 0.5},
        name="again",
    )
    assert answer.status_code == 201, answer.content
    clone = Run.objects.get(pk=answer.json()["id"])
    assert (clone.owner, clone.name, clone.tags, clone.recipe) == (bob, "again", ["t"], "r")
    assert clone.spec["optimizer"]["lr"] == 0.5
    assert {**clone.spec, "optimizer": 0} == {**parent.spec, "optimizer": 0}
    assert answer["Location"] == f"/api/runs/{clone.pk}"


def test_a_fork_starts_from_a_checkpoint_without_a_second_warm_up(client, parent, ada, bearer):
    saved = Checkpoint.objects.create(run=parent, attempt=1, step=40, path="p", sha256="s")
    headers = bearer(ada, "operate")
    answer = post(client, f"{parent.pk}/fork", headers, checkpoint=saved.pk)
    assert answer.status_code == 201, answer.content
    fork = Run.objects.get(pk=answer.json()["id"])
    assert fork.spec["model"]["name"] == f"checkpoint:{saved.pk}"
    assert (fork.spec["model"]["warm_start"], fork.name) == ("", "tiny-from-40")


def test_what_cannot_be_made_is_refused_with_its_place(client, parent, ada, vera, bearer):
    headers = bearer(ada, "operate")
    bad = post(client, f"{parent.pk}/clone", headers, changes={"optimizer.lr": -1})
    assert bad.status_code == 422 and "optimizer.lr" in bad.content.decode()
    assert post(client, f"{parent.pk}/clone", headers, changes={"no.such": 1}).status_code == 422
    assert post(client, f"{parent.pk}/fork", headers, checkpoint="a" * 12).status_code in (
        400,
        409,
        422,
    )
    assert post(client, "aaaaaaaaaaaa/clone", headers).status_code == 404
    assert post(client, f"{parent.pk}/clone", bearer(vera)).status_code == 403
    assert Run.objects.count() == 1


def test_the_same_key_makes_one_fork(client, parent, ada, bearer):
    headers = {**bearer(ada, "operate"), "Idempotency-Key": "k"}
    first = post(client, f"{parent.pk}/clone", headers)
    again = post(client, f"{parent.pk}/clone", headers)
    assert first.json()["id"] == again.json()["id"]
