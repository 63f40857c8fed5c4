"""Whether a model is approved: a pure function of a rule and of what the scores say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def rule_words(rule: Mapping[str, Any]) -> str:
    """A rule in words, "" for none."""
    if not rule.get("better_on"):
        return ""
    guarded = rule.get("not_worse_on", "")
    more = f", not worse on {guarded} by more than {rule.get('margin', 0.0):g}" if guarded else ""
    return f"better on {rule['better_on']}{more}"


def promotion_decided(
    rule: Mapping[str, Any], evidence: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """For each model but the baseline: `candidate`, `approve`, and the `reason` in a sentence.

    `evidence` by scorer, as `comparison_evidence` gives it against the baseline. Approved is whoever is found
    better on `better_on` and whose interval on `not_worse_on` stays above minus `margin`: what is not known well
    enough is not approved.
    """
    better_on, guarded, margin = rule["better_on"], rule.get("not_worse_on", ""), rule["margin"]
    gained = {one["candidate"]: one for one in evidence[better_on]["findings"]}
    kept = {one["candidate"]: one for one in evidence[guarded]["findings"]} if guarded else {}
    names = [arm["name"] for arm in evidence[better_on]["arms"]]
    return [
        _decided(name, better_on, gained.get(name), guarded, kept.get(name), margin)
        for name in names
        if name != evidence[better_on]["baseline"]
    ]


def _decided(
    name: str,
    better_on: str,
    gained: Mapping[str, Any] | None,
    guarded: str,
    kept: Mapping[str, Any] | None,
    margin: float,
) -> dict[str, Any]:
    def because(approve: bool, reason: str) -> dict[str, Any]:
        return {"candidate": name, "approve": approve, "reason": reason}

    if gained is None:
        return because(False, f"Too few prompts have a score of {better_on}.")
    word = gained["verdict"]["word"]
    if word != "better":
        return because(False, f"{better_on}: {word}.")
    said = f"{better_on}: better by {gained['difference']['difference']:+.4g}"
    if not guarded:
        return because(True, f"{said}.")
    if kept is None:
        return because(False, f"{said}, but too few prompts have a score of {guarded}.")
    low = kept["difference"]["interval"]["low"]
    words = f"its interval on {guarded} begins at {low:+.4g}"
    if low < -margin:
        return because(False, f"{said}, but {words}: it may be worse by more than {margin:g}.")
    return because(True, f"{said}, and {words}: it is not worse by more than {margin:g}.")
