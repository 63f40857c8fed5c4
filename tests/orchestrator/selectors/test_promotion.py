"""The promotion rule, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.selectors.promotion import promotion_decided


def evidence(word: str | None, low: float) -> dict[str, Any]:
    found = {
        "candidate": "new", "verdict": {"word": word},
        "difference": {"difference": low + 0.1, "interval": {"low": low}},
    }  # fmt: skip
    arms = [{"name": "old"}, {"name": "new"}]
    return {"baseline": "old", "arms": arms, "findings": [found] if word else []}


@pytest.mark.parametrize(
    ("word", "low", "approve", "reason"),
    [
        ("better", -0.01, True, "it is not worse by more than 0.02"),
        ("better", -0.03, False, "it may be worse by more than 0.02"),
        ("better", -0.02, True, "not worse"),
        ("no difference found", 0.5, False, "x: no difference found"),
        ("not enough data", 0.5, False, "x: not enough data"),
        ("worse", 0.5, False, "x: worse"),
        (None, 0.5, False, "Too few prompts have a score of x"),
    ],
)
def test_better_here_and_not_worse_there(
    word: str | None, low: float, approve: bool, reason: str
) -> None:
    rule = {"better_on": "x", "not_worse_on": "y", "margin": 0.02}
    found = promotion_decided(rule, {"x": evidence(word, 0.1), "y": evidence("worse", low)})
    [one] = found
    assert (one["candidate"], one["approve"]) == ("new", approve)
    assert reason in one["reason"]


def test_nothing_has_to_be_guarded() -> None:
    rule = {"better_on": "x", "not_worse_on": "", "margin": 0.0}
    assert promotion_decided(rule, {"x": evidence("better", 0.1)})[0]["approve"]


def test_what_cannot_be_guarded_is_not_approved() -> None:
    rule = {"better_on": "x", "not_worse_on": "y", "margin": 1.0}
    found = promotion_decided(rule, {"x": evidence("better", 0.1), "y": evidence(None, 0.0)})
    assert not found[0]["approve"] and "too few prompts" in found[0]["reason"]
