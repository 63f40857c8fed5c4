"""Where a gang meets, over REST: told to the leases of its attempt, and to nobody else."""

from __future__ import annotations

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Member, Node, Process, Run
from orchestrator.services.tokens import api_token_create, digest_of

PLACE = {"address": "127.0.0.1", "port": 4711}


@pytest.fixture
def attempt(ada):
    """An attempt at work on two machines."""
    first, other = (Node.objects.create(name=n, token_digest=digest_of(n)) for n in ("n1", "n2"))
    facts = {"attempt": 2, "node": first, "process": Process.CLAIMED}
    run = Run.objects.create(name="r", owner=ada, spec={"resources": {"nodes": 2}}, **facts)
    found = Attempt.objects.create(run=run, number=2, node=first, lease_digest=digest_of("lease 0"))
    Member.objects.create(attempt=found, node=other, index=1, lease_digest=digest_of("lease 1"))
    return found


def ask(client, token: str):
    return client.get("/api/rendezvous", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("token", ["lease 0", "lease 1"])
def test_members_are_told_once_the_first_machine_has_said_it(client, attempt, token):
    assert ask(client, token).json() == {"ready": False, "address": "", "port": 0}
    Attempt.objects.update(rendezvous=PLACE)
    assert ask(client, token).json() == {"ready": True, **PLACE}


def test_nobody_else_is_told(client, attempt, ada, admin_client):
    Attempt.objects.update(rendezvous=PLACE)
    person = api_token_create(user=ada, scope="operate")
    for token in ("n1", "n2", "lease", "", person):
        answer = ask(client, token)
        assert answer.status_code == 401 and b"4711" not in answer.content
    assert admin_client.get("/api/rendezvous").status_code == 401


@pytest.mark.parametrize("over", ["a newer attempt", "ended", "not at work"])
def test_a_fenced_attempt_is_told_that_it_is_over(client, attempt, over):
    Attempt.objects.update(rendezvous=PLACE)
    if over == "ended":
        Attempt.objects.update(ended=timezone.now())
    else:
        facts = {"attempt": 3} if over == "a newer attempt" else {"process": Process.NONE}
        Run.objects.update(**facts)
    answer = ask(client, "lease 1")
    assert answer.status_code == 409 and "over" in answer.json()["detail"]
