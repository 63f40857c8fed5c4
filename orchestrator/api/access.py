"""Who may call what: a session with its CSRF token, or a bearer token whose scope caps the role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ninja.errors import AuthenticationError, AuthorizationError
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from orchestrator.models import ROLE_OF_SCOPE, Role, Run, Scope
from orchestrator.models.user import ROLE_RANK
from orchestrator.services.nodes import node_of_token
from orchestrator.services.tokens import api_token_check

if TYPE_CHECKING:
    from django.http import HttpRequest

    from orchestrator.models import Node, User


@dataclass(frozen=True)
class Caller:
    """A signed-in person, and the role that this request may use."""

    user: User
    role: str
    reads_only: bool = False
    """By a token that only reads, whatever its user may do."""

    def has_role(self, role: str) -> bool:
        """Whether this request may do what `role` may."""
        return _rank(self.role) >= _rank(role)


def _rank(role: str) -> int:
    return ROLE_RANK[Role(role)]


def _allow(caller: Caller, least: str) -> Caller:
    if not caller.has_role(least):
        raise AuthorizationError(message=f"this needs the role {least}; you have {caller.role}")
    return caller


class Bearer(HttpBearer):
    """An API token of a person."""

    def __init__(self, least: str) -> None:
        self.least = least
        super().__init__()

    def authenticate(self, request: HttpRequest, token: str) -> Caller:
        """Find the caller. A bad token is refused even where a session would do."""
        found = api_token_check(token)
        if found is None:
            raise AuthenticationError(message="the token is unknown, revoked or its user is gone")
        cap, own = str(ROLE_OF_SCOPE[found.scope]), str(found.user.role)
        caller = Caller(found.user, min(cap, own, key=_rank), found.scope == Scope.READ)
        return _allow(caller, self.least)


class Session(APIKeyCookie):
    """The session of the web pages; changes need the CSRF token."""

    param_name = "anneal_session"

    def __init__(self, least: str) -> None:
        self.least = least
        super().__init__()

    def __call__(self, request: HttpRequest) -> Caller | None:
        """Find the caller; None without a session, so that the answer is 401 and not about CSRF."""
        user: Any = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return None
        if check_csrf(request) is not None:
            raise AuthorizationError(message="the CSRF token is missing or wrong (X-CSRFToken)")
        return _allow(Caller(user, str(user.role)), self.least)

    def authenticate(self, request: HttpRequest, key: str | None) -> None:
        """Unused: Django's middleware has read the cookie."""


class NodeReader(HttpBearer):
    """The token of a node, where nodes fetch what people may see."""

    def authenticate(self, request: HttpRequest, token: str) -> Node | None:
        """Find the node; None leaves the token to the ways in for people."""
        return node_of_token(token)


def at_least(role: str) -> list[Any]:
    """The ways in for people of at least this role."""
    return [Bearer(role), Session(role)]


VIEWERS, OPERATORS, ADMINS = at_least(Role.VIEWER), at_least(Role.OPERATOR), at_least(Role.ADMIN)

VIEWERS_AND_NODES = [NodeReader(), *VIEWERS]


def caller_or_none(request: HttpRequest) -> Caller | None:
    """The caller where a login is welcome and not needed."""
    try:
        return next((found for way in VIEWERS if (found := way(request))), None)
    except (AuthenticationError, AuthorizationError):
        return None


def owned(run: Run, caller: Caller) -> Run:
    """The run, when the caller may change it: its owner or an admin."""
    if run.owner_id != caller.user.pk and not caller.has_role(Role.ADMIN):
        raise AuthorizationError(message="only its owner or an admin may change a run")
    return run
