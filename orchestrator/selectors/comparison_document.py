"""The report of a comparison as one HTML file: figures and their library inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly
from django.template.loader import render_to_string
from django.utils.safestring import mark_safe

from orchestrator.selectors.comparison_figures import forest, passes

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAW = """
for (const place of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const font = { family: "system-ui, sans-serif", size: 12 };
  const layout = { ...figure.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font };
  Plotly.newPlot(place, figure.data, layout, { displayModeBar: false, responsive: true });
}
"""
"""Draws the figures that the page holds as JSON."""


def report_html(report: dict[str, Any]) -> str:
    """A report as `comparison_report.report_of` gives it, as a page."""
    context = {
        "report": report,
        "comparison": report["comparison"],
        "figures": dict(_figures(report)),
        "policy": content_policy(),
        # Both scripts are ours; what models wrote is escaped by the template.
        "plotly": mark_safe(plotly_script()),
        "draw": mark_safe(DRAW),
    }
    return render_to_string("compare/report_file.html", context)


@lru_cache(maxsize=1)
def plotly_script() -> str:
    """The library, as its Python package has it."""
    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text()


@lru_cache(maxsize=1)
def content_policy() -> str:
    """No script but the two in the page, named by their hashes, and no request at all."""
    scripts = " ".join(f"'sha256-{_hash(text)}'" for text in (plotly_script(), DRAW))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _figures(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, evidence in enumerate(report["evidence"]):
        if evidence["findings"]:
            yield f"forest-{number}", forest(evidence)
        if found := passes(evidence):
            yield f"passes-{number}", found
