"""What the scores of a comparison say: differences with intervals, corrected p-values, careful words."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orchestrator import evidence
from orchestrator.selectors.comparison_sheet import Sheet, scorer_named, sheet_of
from orchestrator.selectors.remembered import Remembered

if TYPE_CHECKING:
    from orchestrator.models import Comparison

Unit = Literal["arms", "recipes"]
RESAMPLES = 4000
"""Of the bootstrap: its ends move by a fortieth of its width; 15 pairs of 1,319 prompts take seconds."""
RESAMPLES_LENGTH = 200
"""Of the length-controlled rate, whose every resample fits a regression."""

_found: Remembered[dict[str, Any]] = Remembered(64)


def comparison_evidence(
    comparison: Comparison, *, scorer: str = "", baseline: str = "", unit: Unit = "arms"
) -> dict[str, Any]:
    """All findings on one scorer, every pair of arms unless a `baseline` is named; plain data.

    `unit` "recipes" joins arms that differ by training seed alone, so that verdicts speak of recipes. Raises
    ValueError that names the field.
    """
    sheet = sheet_of(comparison)
    label = scorer_named(comparison, scorer)
    key = (sheet.key, label, baseline, unit)
    return _found.get(key, lambda: _made(sheet, label, baseline, unit))


def recipes_of(sheet: Sheet) -> dict[str, list[int]]:
    """Recipe -> the places of its arms, where there are several training seeds of it."""
    found: dict[str, list[int]] = {}
    for place, arm in enumerate(sheet.arms):
        if arm.recipe and arm.train_seed is not None:
            found.setdefault(arm.recipe, []).append(place)
    return {recipe: places for recipe, places in found.items() if _seeds(sheet, places) > 1}


def joins_recipes(sheet: Sheet) -> bool:
    """Whether the arms can be compared as recipes: two or more, one of them with several seeds."""
    groups = recipes_of(sheet)
    return bool(groups) and len(sheet.arms) - sum(len(g) - 1 for g in groups.values()) > 1


def _seeds(sheet: Sheet, places: list[int]) -> int:
    return len({sheet.arms[place].train_seed for place in places})


def _made(sheet: Sheet, label: str, baseline: str, unit: Unit) -> dict[str, Any]:
    arms = sheet.evidence_arms(label)
    if unit == "recipes":
        arms = _joined(sheet, arms)
    names = [arm.name for arm in arms.arms]
    if baseline and baseline not in names:
        raise ValueError(f"baseline: there is no '{baseline[:60]}'; use {', '.join(names)}")
    pairs = [
        (later, earlier)
        for at, earlier in enumerate(names)
        for later in names[at + 1 :]
        if not baseline or earlier == baseline
    ]
    if baseline:
        pairs = [(name, baseline) for name in names if name != baseline]
    possible = [pair for pair in pairs if not _reason_against(arms, *pair)]
    found = evidence.findings(arms, pairs=possible, resamples=RESAMPLES) if possible else ()
    binary = sheet.binary(label)
    return {
        "scorer": label,
        "unit": unit,
        "baseline": baseline,
        "binary": binary,
        "better": sheet.better[label],
        "arms": [_arm(arm, sheet.sign(label)) for arm in arms.arms],
        "findings": [_finding(arms, one, sheet) for one in found],
        "impossible": [
            {"candidate": one, "baseline": other, "reason": reason}
            for one, other in pairs
            if (reason := _reason_against(arms, one, other))
        ],
        "passes": _passes(arms) if binary and sheet.sign(label) > 0 else [],
        "recipes": joins_recipes(sheet),
    }


def _joined(sheet: Sheet, arms: evidence.Arms) -> evidence.Arms:
    """Arms of one recipe as one arm of several training seeds, named after the first one."""
    groups = recipes_of(sheet)
    taken = {place: group for group in groups.values() for place in group}
    found, done = [], set()
    for place, arm in enumerate(arms.arms):
        group = taken.get(place, [place])
        if group[0] in done:
            continue
        done.add(group[0])
        if len(group) == 1:
            found.append(arm)
            continue
        scores_SPK = np.concatenate([arms.arms[one].scores for one in group])
        faults = {
            (seed, *index[1:]): why
            for seed, one in enumerate(group)
            for index, why in arms.arms[one].faults.items()
        }
        found.append(evidence.Arm(f"{arm.name} ({len(group)} seeds)", scores_SPK, faults))
    return evidence.Arms(arms.prompts, tuple(found))


def _reason_against(arms: evidence.Arms, candidate: str, baseline: str) -> str:
    """Why two arms cannot be compared; "" where they can."""
    both_P = np.ones(len(arms.prompts), dtype=bool)
    for name in (candidate, baseline):
        both_P &= (~np.isnan(arms[name].scores)).any(axis=2).all(axis=0)
    count = int(both_P.sum())
    if count >= 2:
        return ""
    return f"Only {count} prompts have a score of both; two are the least that can be compared."


def _arm(arm: evidence.Arm, sign: int) -> dict[str, Any]:
    scored_SPK = ~np.isnan(arm.scores)
    scored_P = scored_SPK.any(axis=(0, 2))
    mean = np.nanmean(arm.scores[:, scored_P], axis=(0, 2)).mean() if scored_P.any() else None
    return {
        "name": arm.name,
        "seeds": arm.seeds,
        "mean": None if mean is None else sign * float(mean),
        "prompts": int(scored_P.sum()),
        "scored": int(scored_SPK.sum()),
        "left_out": int((~scored_SPK).sum()),
        "why": _counted(arm),
    }


def _counted(arm: evidence.Arm) -> dict[str, int]:
    found: dict[str, int] = {}
    for why in arm.faults.values():
        found[why] = found.get(why, 0) + 1
    return dict(sorted(found.items(), key=lambda two: (-two[1], two[0]))[:8])


def _finding(arms: evidence.Arms, found: evidence.Finding, sheet: Sheet) -> dict[str, Any]:
    pair = arms.pair(found.candidate, found.baseline)
    plain = asdict(found)
    plain["left_out"]["sentence"] = found.left_out.sentence
    plain["sequence"] = _sequence(pair)
    plain["lengths"] = _lengths(sheet, pair)
    return plain


def _sequence(pair: evidence.Pair) -> dict[str, Any] | None:
    """What may be said however often one has looked; None where scores have no bounds that are known before."""
    low, high = pair.bounds
    if low < 0 or high > 1:
        return None
    looked = evidence.confidence_sequence(pair)
    newest = looked.newest
    return {
        "decision": looked.decision,
        "stopped_at": looked.stopped_at,
        "prompts": newest.prompts,
        "low": newest.low,
        "high": newest.high,
        "p": newest.p,
    }


def _lengths(sheet: Sheet, pair: evidence.Pair) -> dict[str, Any] | None:
    """Win rates, as they are and for equal lengths; None where there are too few answers or no lengths."""
    if pair.seeds != (1, 1):
        return None
    names, at = sheet.names(), {str(number): place for place, number in enumerate(sheet.numbers)}
    one, other = names.index(pair.candidate), names.index(pair.baseline)
    rows = np.array([at[prompt] for prompt in pair.prompts])
    wins, mine, theirs, prompts = [], [], [], []
    samples = min(pair.samples)
    for sample in range(samples):
        a_P, b_P = pair.candidate_scores_SPK[0, :, sample], pair.baseline_scores_SPK[0, :, sample]
        lengths = [sheet.lengths_APK[arm, rows, sample] for arm in (one, other)]
        known = ~np.isnan(a_P) & ~np.isnan(b_P) & ~np.isnan(lengths[0]) & ~np.isnan(lengths[1])
        wins.append(np.where(a_P > b_P, 1.0, np.where(a_P < b_P, 0.0, 0.5))[known])
        mine.append(lengths[0][known])
        theirs.append(lengths[1][known])
        prompts += [prompt for prompt, kept in zip(pair.prompts, known, strict=True) if kept]
    won = np.concatenate(wins)
    if len(won) < 10:
        return None
    found = evidence.length_controlled(
        won,
        np.concatenate(mine),
        np.concatenate(theirs),
        prompts=prompts,
        resamples=RESAMPLES_LENGTH,
    )
    return asdict(found)


def _passes(arms: evidence.Arms) -> list[dict[str, Any]]:
    """pass@k of each arm that has several samples a prompt."""
    found = []
    for arm in arms.arms:
        if arm.scores.shape[2] < 2:
            continue
        try:
            curve = evidence.pass_curve(arm, resamples=2000)
        except ValueError:
            # No k has enough prompts yet: there is no curve, and the arm's own row says what is missing.
            continue
        found.append(asdict(curve))
    return found
