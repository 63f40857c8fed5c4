"""People, a node, and a run under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Attempt, Node, Process, Role, Run, State, User
from orchestrator.services.tokens import api_token_create, digest_of
from tests.s3 import S3, clients_forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC: dict[str, Any] = {
    "name": "tiny",
    "objective": {"type": "sft"},
    "data": {"train": [{"source": "arithmetic"}]},
    "budget": {"max_steps": 10},
}
LEASE = "lease-of-the-run"


@pytest.fixture
def person(db: None) -> Callable[..., User]:
    """Make an account: `person("ada", role="operator")`."""

    def make(username: str, role: str = Role.VIEWER) -> User:
        return User.objects.create_user(username, password="correct horse", role=role)

    return make


@pytest.fixture
def ada(person: Callable[..., User]) -> User:
    """An operator, who owns the run."""
    return person("ada", Role.OPERATOR)


@pytest.fixture
def bob(person: Callable[..., User]) -> User:
    """Another operator, who owns nothing."""
    return person("bob", Role.OPERATOR)


@pytest.fixture
def vera(person: Callable[..., User]) -> User:
    """A viewer."""
    return person("vera", Role.VIEWER)


@pytest.fixture
def alma(person: Callable[..., User]) -> User:
    """An admin."""
    return person("alma", Role.ADMIN)


@pytest.fixture
def node(db: None) -> Node:
    """A machine."""
    return Node.objects.create(name="n1", token_digest=digest_of("node-token"))


@pytest.fixture
def run(ada: User, node: Node) -> Run:
    """A run of ada's whose first attempt was claimed."""
    run = Run.objects.create(
        name="tiny",
        owner=ada,
        spec=SPEC,
        attempt=1,
        node=node,
        process=Process.ALIVE,
        state=State.RUNNING,
    )
    attempt_add(run, 1)
    return run


def attempt_add(run: Run, number: int) -> Attempt:
    """Give a run an attempt whose lease token is `LEASE` and its number."""
    Run.objects.filter(pk=run.pk).update(attempt=number)
    return Attempt.objects.create(
        run=run, number=number, node=run.node, lease_digest=digest_of(f"{LEASE}-{number}")
    )


@pytest.fixture
def bearer() -> Callable[..., dict[str, str]]:
    """Headers with a new token of a person: `client.get(url, headers=bearer(ada, "read"))`."""

    def headers(user: User, scope: str = "admin") -> dict[str, str]:
        return {"Authorization": f"Bearer {api_token_create(user=user, scope=scope)}"}

    return headers


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """An S3 server for the whole session."""
    server = S3()
    server.start()
    yield server
    clients_forget()
    server.stop()


@pytest.fixture
def s3_otherwise(s3: S3) -> Iterator[S3]:
    """The same for a test that changes the environment or the server's mind."""
    clients_forget()
    yield s3
    clients_forget()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The same, with credentials for it in the environment."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server
