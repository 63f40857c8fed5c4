"""Ways in and out: password, one-time link, sign out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import login as session_start
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from orchestrator.services import tokens

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

BACKEND = "django.contrib.auth.backends.ModelBackend"


class SignIn(LoginView):
    """Name and password."""

    template_name = "account/login.html"
    redirect_authenticated_user = True


class SignOut(LogoutView):
    """Ends the session; POST only."""


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def admin_door(request: HttpRequest) -> HttpResponse:
    """Where the admin sends people whom it does not let in; there is one way in for everybody."""
    if request.user.is_authenticated:
        # The login page would send them straight back, for ever.
        raise PermissionDenied("The admin is for staff accounts; yours is not one.")
    query = request.GET.urlencode()
    return redirect(f"{reverse('login')}?{query}" if query else "login")


@login_not_required
@never_cache
@sensitive_variables("token")
@require_http_methods(["GET", "POST"])
def link(request: HttpRequest, token: str) -> HttpResponse:
    """A one-time link: opening it only shows a button, since previews and scanners open links too."""
    if request.method == "GET":
        return render(request, "account/link.html", {"token": token})
    user = tokens.login_link_redeem(token)
    if user is None:
        return render(request, "account/link.html", {"spent": True}, status=403)
    session_start(request, user, backend=BACKEND)
    return redirect("runs")
