"""The prompts of a comparison with all arms' answers: filtered by what the scores say, one page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from orchestrator.models import Answer, Item, Score
from orchestrator.selectors.comparison_sheet import scorer_named, sheet_of
from orchestrator.selectors.comparisons import scorers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from orchestrator.models import Comparison
    from orchestrator.selectors.comparison_sheet import Sheet

Show = Literal["all", "a-wins", "b-wins", "both-fail", "disagree", "longest", "left-out"]
SHOWS: tuple[Show, ...] = get_args(Show)


@dataclass(frozen=True)
class View:
    """Which prompts are looked at, and between which two arms."""

    scorer: str
    a: int
    """Place of the first arm."""
    b: int
    show: Show = "all"
    q: str = ""


def view_of(
    comparison: Comparison,
    sheet: Sheet,
    *,
    scorer: str = "",
    a: str = "",
    b: str = "",
    show: str = "all",
    q: str = "",
) -> View:
    """The view that was asked for; A is the baseline and B the next arm unless named.

    Raises ValueError that names the field.
    """
    names = sheet.names()
    for field, value in (("a", a), ("b", b)):
        if value and value not in names:
            raise ValueError(f"{field}: there is no arm '{value[:60]}'; use {', '.join(names)}")
    first = names.index(a) if a else next(at for at, name in enumerate(names) if name != b)
    second = names.index(b) if b else next(at for at in range(len(names)) if at != first)
    if first == second:
        raise ValueError("b: is the same arm as a; choose another one")
    if show not in SHOWS:
        raise ValueError(f"show: must be one of {', '.join(SHOWS)}")
    return View(
        scorer_named(comparison, scorer), first, second, show, q.replace("\x00", "").strip()
    )


def pairs_page(
    comparison: Comparison,
    *,
    page: int = 1,
    per_page: int = 20,
    sheet: Sheet | None = None,
    view: View | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """One page of prompts with every arm's answers, and how many prompts the view has."""
    sheet = sheet or sheet_of(comparison)
    view = view or view_of(comparison, sheet)
    places = places_of(comparison, sheet, view)
    start = (page - 1) * per_page
    return items_shown(comparison, sheet, view, places[start : start + per_page]), len(places)


def counts_of(sheet: Sheet, view: View) -> dict[str, int]:
    """How many prompts each filter would show."""
    a_P, b_P = _two(sheet, view)
    return {
        "all": len(sheet.items),
        "a-wins": int((a_P > b_P).sum()),
        "b-wins": int((b_P > a_P).sum()),
        "both-fail": int(_both_fail(sheet, view).sum()),
        "disagree": int((a_P != b_P)[~np.isnan(a_P) & ~np.isnan(b_P)].sum()),
        "longest": len(sheet.items),
        "left-out": int((np.isnan(a_P) | np.isnan(b_P)).sum()),
    }


def places_of(comparison: Comparison, sheet: Sheet, view: View) -> list[int]:
    """The prompts of a view by their places in the sheet, in the order in which they are shown."""
    a_P, b_P = _two(sheet, view)
    difference_P = np.abs(a_P - b_P)
    count = len(sheet.items)
    kept: NDArray[np.bool_] = np.ones(count, dtype=bool)
    order = np.arange(count)
    if view.show == "a-wins":
        kept = a_P > b_P
    elif view.show == "b-wins":
        kept = b_P > a_P
    elif view.show == "both-fail":
        kept = _both_fail(sheet, view)
    elif view.show == "left-out":
        kept = np.isnan(a_P) | np.isnan(b_P)
    elif view.show == "disagree":
        kept = difference_P > 0
    if view.show in ("a-wins", "b-wins", "disagree"):
        order = np.argsort(-np.nan_to_num(difference_P), kind="stable")
    elif view.show == "longest":
        longest_P = np.nan_to_num(sheet.lengths_APK[[view.a, view.b]]).max(axis=(0, 2))
        order = np.argsort(-longest_P, kind="stable")
    places = [int(place) for place in order if kept[place]]
    if view.q:
        found = set(
            Item.objects.filter(comparison=comparison, prompt__icontains=view.q).values_list(
                "pk", flat=True
            )
        )
        places = [place for place in places if sheet.items[place] in found]
    return places


def items_shown(
    comparison: Comparison, sheet: Sheet, view: View, places: Sequence[int]
) -> list[dict[str, Any]]:
    """Prompts at these places of the sheet, with texts and scores."""
    items = Item.objects.in_bulk([sheet.items[place] for place in places])
    wanted = sheet.answers_APK[:, list(places)]
    keys = [int(pk) for pk in wanted.ravel() if pk >= 0]
    answers = Answer.objects.defer("token_ids", "logps").in_bulk(keys)
    labels = scorers_of(comparison)
    scores: dict[int, dict[str, tuple[float | None, str]]] = {}
    found = Score.objects.filter(answer__in=keys, scorer__in=labels.values())
    for answer, scorer, value, problem in found.values_list(
        "answer_id", "scorer", "value", "problem"
    ):
        scores.setdefault(answer, {})[scorer] = (value, problem)
    means_AP = sheet.means_AP(view.scorer)
    shown = []
    for place in places:
        item = items[sheet.items[place]]
        a, b = (_number(means_AP[at, place]) for at in (view.a, view.b))
        shown.append(
            {
                "number": item.number,
                "digest": item.digest,
                "part": item.part,
                "prompt": item.prompt,
                "reference": _reference(item.row),
                "difference": None if a is None or b is None else b - a,
                "arms": [
                    {
                        "arm": arm.name,
                        "mean": _number(means_AP[at, place]),
                        "answers": [
                            _answer(answers[int(pk)], index, labels, scores.get(int(pk), {}))
                            for index, pk in enumerate(sheet.answers_APK[at, place])
                            if pk >= 0
                        ],
                    }
                    for at, arm in enumerate(sheet.arms)
                ],
            }
        )
    return shown


def _answer(
    answer: Answer, index: int, labels: dict[str, str], scores: dict[str, tuple[float | None, str]]
) -> dict[str, Any]:
    found = {label: scores[digest] for label, digest in labels.items() if digest in scores}
    return {
        "id": answer.pk,
        "index": index,
        "text": answer.text,
        "tokens": answer.tokens,
        "finish_reason": answer.finish_reason,
        "problem": answer.problem,
        "scores": {
            label: {"value": value, "problem": problem} for label, (value, problem) in found.items()
        },
    }


def _two(sheet: Sheet, view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of both arms the means of a prompt, more being better."""
    gains_AP = sheet.gains_AP(view.scorer)
    return gains_AP[view.a], gains_AP[view.b]


def _both_fail(sheet: Sheet, view: View) -> NDArray[np.bool_]:
    """Right or wrong: both wrong. A reward: nothing gained. Where lower scores are better, none fails."""
    a_P, b_P = _two(sheet, view)
    failed: NDArray[np.bool_] = (a_P <= 0) & (b_P <= 0) & (sheet.sign(view.scorer) > 0)
    return failed


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _reference(row: dict[str, Any]) -> str:
    """What the row says is right, for people."""
    found = row.get("answer", row.get("completion", ""))
    return found if isinstance(found, str) else str(found)
