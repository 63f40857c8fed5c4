"""What a run's page says of the promotion that follows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import ENDED, State
from orchestrator.selectors.comparisons import comparison_get, comparison_progress
from orchestrator.selectors.promotion import rule_words

if TYPE_CHECKING:
    from orchestrator.models import Run


def promotion_line(run: Run) -> dict[str, Any]:
    """`rule`, `baseline`, and `sentence` of how far it is; `comparison` once there is one. {} without a rule."""
    rule = run.promotion
    if not rule.get("better_on"):
        return {}
    begun = rule.get("begun", {})
    made = comparison_get(begun["comparison"]) if begun.get("comparison") else None
    if made is None:
        sentence = begun.get("problem") or _waiting(run)
        if begun.get("comparison"):
            sentence = "Its comparison was deleted."
    elif (decided := made.promotion.get("decided")) is not None:
        sentence = " ".join(
            f"{'Approved' if one['approve'] else 'Not approved'}. {one['reason']}"
            for one in decided
        )
    else:
        found = comparison_progress(made)
        sentence = f"The comparison is {found.state}. {found.reason}".strip()
    baseline = "its start model" if rule["baseline"] == "start" else rule["baseline"]
    return {
        "rule": rule_words(rule),
        "baseline": baseline,
        "sentence": sentence,
        "comparison": made,
    }


def _waiting(run: Run) -> str:
    if run.state in ENDED and run.state != State.FINISHED:
        return f"Not begun: the run is {run.state}; it follows a run that has finished."
    return "Begins by itself once the run has finished."
