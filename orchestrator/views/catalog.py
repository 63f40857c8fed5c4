"""The methods page: the catalogue, read from the code itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.views.decorators.http import require_GET

from orchestrator.selectors import method_cards

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Everything on one page, so that the browser's own search finds it too."""
    context = {"families": method_cards.families(), "sections": method_cards.sections()}
    return render(request, "methods/page.html", context)
