"""Search over runs, checkpoints and methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.views.decorators.http import require_GET

from orchestrator.selectors.search import search
from orchestrator.views.query import query_text

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """A list below the search box for htmx, a page without it."""
    text = query_text(request, "q")
    template = "search/found.html" if request.htmx else "search/page.html"
    return render(request, template, {"text": text, "groups": search(text)})
