"""Is it up: for supervisors, load balancers and people."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from ninja import Router

from orchestrator.api.access import caller_or_none
from orchestrator.selectors.artifacts import store_state
from orchestrator.selectors.health import OK, health_read
from orchestrator.version import version

router = Router(tags=["health"])


@router.get("/health", auth=None, response={200: dict[str, Any], 503: dict[str, Any]})
def health(request: HttpRequest) -> tuple[int, dict[str, Any]]:
    """`ok` when database, broker and nodes work, else 503; what is wrong is told to people signed in."""
    checks = health_read()
    works = all(check == OK for check in checks.values())
    answer: dict[str, Any] = {"status": "ok" if works else "unavailable"}
    if _is_known(request):
        answer |= {"version": version(), "checks": checks, **_artifacts()}
    return (200 if works else 503), answer


def _artifacts() -> dict[str, Any]:
    """The artifact store, where there is one; a server whose store is away works, and says so."""
    try:
        found = store_state()
    except (DatabaseError, InterfaceError):
        return {}
    return {"artifacts": dataclasses.asdict(found)} if found else {}


def _is_known(request: HttpRequest) -> bool:
    try:
        return caller_or_none(request) is not None
    except (DatabaseError, InterfaceError):
        return False
