"""Pages are closed by default, and every answer tells the browser what it may load."""

from __future__ import annotations

import pytest
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path

from orchestrator.security import ContentPolicy, LoginByDefault


def page(request):
    return HttpResponse("inside")


urlpatterns = [path("login/", page, name="login")]
pytestmark = pytest.mark.urls(__name__)


def stopped(address: str, view) -> bool:
    request = RequestFactory().get(address)
    request.user = AnonymousUser()
    answer = LoginByDefault(page).process_view(request, view, (), {})
    assert answer is None or answer.url == f"/login/?next={address}"
    return answer is not None


@pytest.mark.parametrize("address", ["/", "/runs/", "/apiary/"])
def test_a_stranger_sees_no_page_that_is_not_marked_open(address):
    assert stopped(address, page)


def test_marked_pages_and_the_api_with_its_own_check_are_open():
    assert not stopped("/login/", login_not_required(lambda request: HttpResponse()))
    assert not stopped("/api/health", page)


def test_no_inline_script_no_foreign_script_no_frame():
    policy = ContentPolicy(page)(RequestFactory().get("/"))["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'self'"
    assert "script-src" not in rules
    assert rules["frame-ancestors"] == rules["object-src"] == "'none'"


def test_a_page_may_send_a_stricter_policy_of_its_own():
    def strict(request):
        return HttpResponse(headers={"Content-Security-Policy": "sandbox"})

    answer = ContentPolicy(strict)(RequestFactory().get("/"))
    assert answer["Content-Security-Policy"] == "sandbox"
