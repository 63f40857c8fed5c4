"""A comparison's report: one HTML file that opens without a server, JSON, CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from ninja import Router

from orchestrator.api.answers import StrictJSON
from orchestrator.api.comparisons import comparison_or_404
from orchestrator.selectors.comparison_document import content_policy, report_html
from orchestrator.selectors.comparison_report import report_lines, report_of

if TYPE_CHECKING:
    from orchestrator.models import Comparison

router = Router(tags=["comparisons"])


@router.get("/comparisons/{comparison_id}/report.json")
def comparison_report_json(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """What was asked, all findings of every scorer, regressions, and the prompts that differ most."""
    comparison = comparison_or_404(comparison_id)
    text = StrictJSON().render(request, report_of(comparison), response_status=200)
    return _file(HttpResponse(text, content_type="application/json"), comparison, "json")


@router.get("/comparisons/{comparison_id}/report.csv")
def comparison_report_csv(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """One line for each answer and scorer; an empty score has its reason in `problem`."""
    comparison = comparison_or_404(comparison_id)
    answer = HttpResponse("".join(report_lines(comparison)), content_type="text/csv; charset=utf-8")
    return _file(answer, comparison, "csv")


@router.get("/comparisons/{comparison_id}/report.html")
def comparison_report_html(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """The report as one page with its figures inside: nothing is loaded from anywhere."""
    comparison = comparison_or_404(comparison_id)
    page = report_html(report_of(comparison))
    answer = _file(HttpResponse(page, content_type="text/html; charset=utf-8"), comparison, "html")
    answer["Content-Security-Policy"] = content_policy()
    return answer


def _file(answer: HttpResponse, comparison: Comparison, ending: str) -> HttpResponse:
    answer["Content-Disposition"] = f'attachment; filename="comparison-{comparison.pk}.{ending}"'
    return answer
