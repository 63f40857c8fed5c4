"""The nodes page, and what admins decide about machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Node, Role
from orchestrator.selectors import node_cards
from orchestrator.selectors.artifacts import store_state
from orchestrator.services import node_changes, nodes

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

SLOTS_MOST = 1024


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The whole page."""
    return _page(request)


@never_cache
@require_GET
def cards(request: HttpRequest) -> HttpResponse:
    """The cards alone, for a page that keeps itself fresh."""
    return render(request, "nodes/cards.html", _listed(request))


@never_cache
@require_POST
def invite(request: HttpRequest) -> HttpResponse:
    """Make a node that may join, and show its token, this once."""
    _admins_only(request)
    typed = {name: request.POST.get(name, "").strip() for name in ("name", "slots", "labels")}
    try:
        node, token = nodes.node_invite(
            name=typed["name"], slots=_slots(typed["slots"]), labels=typed["labels"].split()
        )
    except ValueError as problem:
        return _page(request, typed=typed, problem=str(problem), status=422)
    return _page(request, invited=node, token=token)


@never_cache
@require_POST
def act(request: HttpRequest, node_id: str, verb: str) -> HttpResponse:
    """Drain, cordon, change labels and slots, take the token back or make another, remove."""
    _admins_only(request)
    node = get_object_or_404(Node, pk=node_id, removed=None)
    try:
        if verb == "renew":
            invited, token = node_changes.node_token_renew(node_id=node.pk)
            return _page(request, invited=invited, token=token)
        messages.success(request, _done(request, node, verb))
    except ValueError as problem:
        messages.error(request, f"{node.name}: {problem}")
    return redirect("nodes")


SWITCHES: dict[str, tuple[dict[str, Any], str]] = {
    "drain": ({"drained": True}, "takes no more runs; it is empty when those on it have ended."),
    "undrain": ({"drained": False}, "takes runs again."),
    "cordon": ({"cordoned": True}, "takes no new runs; those that worked on it may return."),
    "uncordon": ({"cordoned": False}, "takes new runs again."),
}
"""Verb -> what it changes, and what that means for the node."""


def _done(request: HttpRequest, node: Node, verb: str) -> str:
    if verb in SWITCHES:
        changes, means = SWITCHES[verb]
        node_changes.node_patch(node_id=node.pk, **changes)
        return f"{node.name} {means}"
    if verb == "change":
        labels = request.POST.get("labels", "").split()
        node_changes.node_patch(
            node_id=node.pk, labels=labels, slots=_slots(request.POST.get("slots", ""))
        )
        return f"{node.name} is changed."
    if verb == "revoke":
        node_changes.node_revoke(node_id=node.pk)
        return f"The token of {node.name} works no more; trainings on it go on until they end."
    if verb == "remove":
        node_changes.node_remove(node_id=node.pk)
        return f"{node.name} is removed; its runs keep their history."
    raise Http404("nothing is called that")


def _slots(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= SLOTS_MOST):
        raise ValueError(f"slots: a whole number from 1 to {SLOTS_MOST}.")
    return int(text)


def _admins_only(request: HttpRequest) -> None:
    if not request.user.has_role(Role.ADMIN):
        raise PermissionDenied("Only admins change nodes.")


def _listed(request: HttpRequest) -> dict[str, Any]:
    found = node_cards.node_cards()
    return {
        "cards": found,
        "ready": sum(card.status == "ready" for card in found),
        "busy": sum(card.busy for card in found if card.speaks),
        "slots": sum(card.node.slots for card in found if card.speaks),
        "waiting": node_cards.runs_waiting(),
        "store": store_state(),
        "may_change": request.user.has_role(Role.ADMIN),
    }


def _page(request: HttpRequest, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "server": request.build_absolute_uri("/").rstrip("/"),
        "alone": node_cards.only_this_machine_joins(),
    }
    return render(request, "nodes/page.html", _listed(request) | context | more, status=status)
