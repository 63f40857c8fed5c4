"""The form on a run's page for the promotion that follows it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.models.promotion_after import START
from orchestrator.selectors.comparison_form import (
    LIMIT,
    knob_choices,
    prompt_choices,
    scorer_choices,
)
from trainer.problems import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.models import Run

RULE = ("baseline", "better_on", "not_worse_on", "margin")
"""Fields of the form that are fields of the rule."""
FIELDS = (*RULE, "scorer", "knobs", "source")
"""All of them: one scorer by type and knobs, one source of prompts; empty leaves what the rule or the run has."""
LONGEST = 2000


def promotion_form(run: Run, typed: Mapping[str, str]) -> dict[str, Any]:
    """What the form shows."""
    return {
        "promotion_fields": promotion_fields(run, typed),
        "promotion_kept": promotion_kept(run),
        "promotion_prompts": prompt_choices(),
        "promotion_scorers": scorer_choices(),
        "promotion_knobs": knob_choices(),
    }


def promotion_fields(run: Run, typed: Mapping[str, str]) -> dict[str, Any]:
    """What the fields hold: what was typed, else the rule as it is, else a proposal."""
    stored: dict[str, Any] = {"baseline": START} | {
        name: value for name, value in run.promotion.items() if name in RULE
    }
    if "scorer" not in typed and len(scorers := run.promotion.get("scorers", [])) == 1:
        knobs = {key: value for key, value in scorers[0].items() if key != "type"}
        stored |= {"scorer": scorers[0]["type"], "knobs": json.dumps(knobs) if knobs else ""}
    return {name: typed.get(name) or stored.get(name, "") for name in FIELDS}


def promotion_kept(run: Run) -> dict[str, str]:
    """What an empty choice of scorer, and of prompts, stands for."""
    rule, data = run.promotion, run.spec.get("data")
    rows = data.get("eval") if isinstance(data, dict) else None
    own = "as given: " if rule.get("better_on") else "its own: "
    names = _listed(rule.get("scorers") or run.spec.get("rewards"), "name", "type")
    sources = _listed(rule.get("prompts") or rows, "source")
    return {
        "scorer": own + names if names else "choose one",
        "source": own + sources if sources else "choose one",
    }


def _listed(items: Any, *keys: str) -> str:
    """What the items are called; a spec of an earlier version may hold anything there."""
    known = [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []
    return ", ".join(str(next(filter(None, map(one.get, keys)), "")) for one in known)


def rule_read(run: Run, typed: Mapping[str, str]) -> dict[str, Any]:
    """The rule that the fields make of the one that is there. Raises SpecError for knobs that are no JSON."""
    # What the form does not have (several scorers or sources, sampling) stays as it was given.
    rule = {key: value for key, value in run.promotion.items() if key not in ("begun", *RULE)}
    rule |= {name: typed[name] for name in RULE if typed[name]}
    if not typed["not_worse_on"]:
        rule["not_worse_on"] = ""
    if typed["scorer"]:
        rule["scorers"] = [{**_knobs(typed["knobs"]), "type": typed["scorer"]}]
    if typed["source"]:
        source, _, task = typed["source"].partition(":")
        options = {"options": {"task": task}} if task else {}
        rule["prompts"] = [{"source": source, "split": "test", "limit": LIMIT, **options}]
    return rule


def _knobs(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
        if not isinstance(found, dict):
            raise ValueError("must be a JSON object")
    except ValueError as error:
        words = f"knobs: not JSON ({error})"
        raise SpecError([Problem(path="promotion.scorers.0", message=words)]) from error
    return found
