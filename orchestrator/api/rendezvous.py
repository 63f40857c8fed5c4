"""Where the machines of a gang meet: told to its members alone, by the leases of the attempt that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from ninja import Router
from ninja.errors import AuthenticationError
from ninja.security import HttpBearer

from orchestrator.api.problems import Conflict
from orchestrator.api.shapes import Strict
from orchestrator.selectors.members import rendezvous_of
from orchestrator.services.members import member_of_lease

if TYPE_CHECKING:
    from orchestrator.models import Attempt

router = Router(tags=["nodes"])


class LeaseToken(HttpBearer):
    """The lease of one machine's part in an attempt, as its claim was answered."""

    def authenticate(self, request: HttpRequest, token: str) -> Attempt:
        """Find the attempt."""
        attempt = member_of_lease(token)
        if attempt is None:
            raise AuthenticationError(message="the lease token is unknown")
        return attempt


class Rendezvous(Strict):
    """Where the first machine listens, once it has said so."""

    ready: bool
    address: str
    port: int


@router.get("/rendezvous", auth=LeaseToken(), response=Rendezvous)
def rendezvous(request: HttpRequest) -> dict[str, Any]:
    """Say where the first machine of this attempt awaits the others; 409 once the attempt is over."""
    place = rendezvous_of(request.auth)
    if place is None:
        raise Conflict("this attempt is over")
    return place
