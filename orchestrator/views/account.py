"""A person's own page: who they are, their API tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Scope
from orchestrator.services import tokens

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _page(request)


@never_cache
@require_POST
def token_create(request: HttpRequest) -> HttpResponse:
    """Make a token and show it, this once."""
    scope = request.POST.get("scope", "")
    if scope not in Scope.values:
        messages.error(request, "Choose read, operate or admin.")
        return redirect("account")
    name = request.POST.get("name", "").strip()[:100]
    return _page(request, token=tokens.api_token_create(user=request.user, name=name, scope=scope))


@require_POST
def token_revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    """Take a token of one's own out of use."""
    own = request.user.api_tokens.filter(pk=token_id, revoked=None)
    if own.update(revoked=timezone.now()):
        messages.success(
            request, "The token is revoked; scripts that use it are refused from now on."
        )
    return redirect("account")


def _page(request: HttpRequest, token: str = "") -> HttpResponse:
    context = {
        "tokens": request.user.api_tokens.filter(revoked=None).order_by("-created"),
        "token": token,
        "scopes": Scope.choices,
    }
    return render(request, "account/page.html", context)
