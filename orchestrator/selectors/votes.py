"""Votes of people and judgements of models as evidence reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import evidence
from orchestrator.models import Comparison, Judgement, Outcome, Vote
from orchestrator.selectors.ballot_pool import answers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Styles = Callable[[Any, Any], evidence.Style | None]

SAID: dict[str, Any] = {
    Outcome.LEFT: "left",
    Outcome.RIGHT: "right",
    Outcome.TIE: "tie",
    Outcome.BOTH_BAD: "both bad",
}
JUDGE_LETTERS = 8


def comparison_get(comparison_id: str) -> Comparison | None:
    """One comparison with its owner."""
    return Comparison.objects.select_related("owner").filter(pk=comparison_id).first()


def votes_of(comparison: Comparison) -> Any:
    """Votes that count, in the order in which they were given."""
    return (
        Vote.objects.filter(comparison=comparison, undone=None)
        .select_related("voter", "item", "left", "right")
        .order_by("pk")
    )


def people_votes(comparison: Comparison, *, with_style: bool = False) -> list[evidence.Vote]:
    """Votes of people. `with_style` reads the answers' texts, which only style control needs."""
    rows = list(votes_of(comparison))
    styles = _styles(comparison, rows) if with_style else _no_style
    return [_evidence(row, row.voter.get_username(), styles) for row in rows]


def model_votes(
    comparison: Comparison, *, with_style: bool = False
) -> tuple[list[evidence.Vote], int]:
    """Judgements of models, and how many of them came to nothing."""
    rows = list(
        Judgement.objects.filter(comparison=comparison)
        .select_related("item", "left", "right")
        .order_by("pk")
    )
    said = [row for row in rows if row.outcome]
    styles = _styles(comparison, said) if with_style else _no_style
    votes = [_evidence(row, f"model {row.judge[:JUDGE_LETTERS]}", styles) for row in said]
    return votes, len(rows) - len(said)


def _evidence(row: Any, judge: str, styles: Styles) -> evidence.Vote:
    gold = getattr(row, "gold", "")
    first, second = sorted((row.left_id, row.right_id))
    return evidence.Vote(
        judge=judge,
        prompt=row.item.digest,
        left=row.left.name,
        right=row.right.name,
        outcome=SAID[row.outcome],
        left_style=styles(row, row.left),
        right_style=styles(row, row.right),
        gold=SAID[gold] if gold else None,
        item=f"{row.item_id}/{row.index}/{first}/{second}",
    )


def _no_style(row: Any, arm: Any) -> None:
    return None


def _styles(comparison: Comparison, rows: Iterable[Any]) -> Styles:
    wanted = {
        (arm.digest, row.item.digest, row.index) for row in rows for arm in (row.left, row.right)
    }
    texts = answers_of(comparison, {item for _, item, _ in wanted}).filter(
        problem="", index__in={index for _, _, index in wanted}
    )
    fields = ("model", "item", "index", "text")
    found = {
        key: evidence.style(text)
        for *key_of, text in texts.values_list(*fields)
        if (key := tuple(key_of)) in wanted
    }

    def style_of(row: Any, arm: Any) -> evidence.Style:
        # An answer that is gone counts as empty: its vote stays, and nothing is claimed of its style.
        return found.get((arm.digest, row.item.digest, row.index), evidence.Style())

    return style_of
