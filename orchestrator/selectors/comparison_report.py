"""A comparison as one document: what was asked, what was found, on which prompts it shows."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from orchestrator.selectors.comparison_evidence import comparison_evidence
from orchestrator.selectors.comparison_pairs import items_shown, places_of, view_of
from orchestrator.selectors.comparison_regressions import regressions_page
from orchestrator.selectors.comparison_sheet import sheet_of
from orchestrator.selectors.comparisons import comparison_shape, scorers_of
from orchestrator.selectors.judge_figures import judges_shape
from orchestrator.selectors.judges import asked_of, judges_of
from orchestrator.version import version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import Comparison

EXAMPLES = 12
NOT_YET = "not judged yet"
REGRESSIONS = 50


def report_of(comparison: Comparison) -> dict[str, Any]:
    """The report as plain data."""
    sheet = sheet_of(comparison)
    labels = list(scorers_of(comparison))
    regressions = []
    for arm in sheet.names()[1:]:
        view = view_of(comparison, sheet, scorer=labels[0], a=sheet.names()[0], b=arm)
        found, count = regressions_page(comparison, sheet, view, per_page=REGRESSIONS)
        regressions.append(
            {
                "a": sheet.names()[0],
                "b": arm,
                "count": count,
                "rows": [
                    {key: row[key] for key in ("number", "prompt", "certainty", "solved")}
                    for row in found
                ],
            }
        )
    view = view_of(comparison, sheet, scorer=labels[0], show="disagree")
    places = places_of(comparison, sheet, view)
    return {
        "version": version(),
        "made": timezone.now().isoformat(),
        "comparison": _plain(comparison_shape(comparison)),
        "evidence": [comparison_evidence(comparison, scorer=label) for label in labels],
        "judges": judges_shape(comparison),
        "regressions": regressions,
        "examples": items_shown(comparison, sheet, view, places[:EXAMPLES]),
    }


def report_lines(comparison: Comparison) -> Iterator[str]:
    """CSV: one line an answer's score, with the prompt's number and digest; then one a pair that a judge compares,
    1 where the arm won against the other one, 0 where it lost, 0.5 for a tie."""
    sheet = sheet_of(comparison)
    yield _line(
        ["prompt", "digest", "part", "arm", "sample", "scorer", "score", "problem", "length"]
    )
    for label, scores_APK in sheet.scores.items():
        faults = sheet.faults[label]
        for at, arm in enumerate(sheet.arms):
            for place, number in enumerate(sheet.numbers):
                for sample in range(scores_APK.shape[2]):
                    why = faults.get((at, place, sample), "")
                    length = sheet.lengths_APK[at, place, sample]
                    yield _line(
                        [
                            number,
                            sheet.digests[place],
                            sheet.parts[place],
                            arm.name,
                            sample,
                            label,
                            "" if why else repr(float(scores_APK[at, place, sample])),
                            why,
                            "" if length != length else int(length),
                        ]
                    )
    for judge in judges_of(comparison):
        name = f"judge {judge.knobs['model']} {judge.digest[:8]}"
        parts = dict(zip(sheet.numbers, sheet.parts, strict=True))
        for one in asked_of(comparison, judge):
            duel = one.duel(judge, (float("nan"), float("nan")))
            value = duel.value(swap=judge.swap, repeats=judge.repeats)
            why = "" if value is not None else duel.fault or NOT_YET
            scorer = f"{name} against {one.baseline}"
            score = "" if value is None else repr(value)
            line = [one.number, one.digest, parts[one.number], one.candidate, one.index, scorer]
            yield _line([*line, score, why, ""])


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_safe(cell) for cell in cells])
    return text.getvalue()


def _safe(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    formula = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{cell}" if formula and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(shape: dict[str, Any]) -> dict[str, Any]:
    return {
        **shape,
        "created": shape["created"].isoformat(),
        "stopped": shape["stopped"].isoformat() if shape["stopped"] else None,
    }
