"""The way to the page that compares models: there only while that page is."""

from __future__ import annotations

from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from orchestrator.compare_link import compare_address
from orchestrator.urls import urlpatterns as ours

urlpatterns = [
    path("compare/new", lambda request: HttpResponse("compared"), name="compare_new"),
    *ours,
]


def test_it_names_each_model_once_and_readably():
    with override_settings(ROOT_URLCONF="tests.orchestrator.test_compare_link"):
        address = compare_address(["checkpoint:a", "external:b", "checkpoint:a"])
        assert str(address).partition("?")[2] == "with=checkpoint:a,external:b"


def test_without_the_page_there_is_no_way():
    with override_settings(ROOT_URLCONF="tests.orchestrator.pageless"):
        assert compare_address(["checkpoint:a"]) is None
