"""A comparison with answers, made without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Answer, Arm, Comparison, Item, Judgement, Score, Vote
from trainer.answering import item_digest, sampling_digest, scorer_digests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.models import User

EXACT: dict[str, Any] = {"type": "exact-match"}
SAMPLING: dict[str, Any] = {"samples": 1, "temperature": 1.0, "max_new_tokens": 32}


def says(arm: str, number: int, index: int) -> str:
    """An answer that no other arm gives; its words do not tell whose it is."""
    return f"answer {sum(map(ord, arm)) % 97}-{number}-{index}"


def compared(
    owner: User,
    arms: Sequence[str] = ("base", "tuned"),
    *,
    items: int = 8,
    samples: int = 1,
    text: Callable[[str, int, int], str | None] = says,
    scorers: Sequence[dict[str, Any]] = (),
    name: str = "base against tuned",
) -> Comparison:
    """A comparison whose arms have answered; where `text` gives None an answer is missing."""
    comparison = Comparison.objects.create(
        name=name,
        owner=owner,
        sampling={**SAMPLING, "samples": samples},
        scorers=list(scorers),
        prompts=[{"source": "arithmetic", "split": "test"}],
    )
    rows = [
        {"prompt": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(items)
    ]
    Item.objects.bulk_create(
        Item(
            comparison=comparison,
            number=number,
            digest=item_digest(row),
            prompt=row["prompt"],
            row=row,
        )
        for number, row in enumerate(rows)
    )
    made = [
        Arm.objects.create(
            comparison=comparison,
            position=position,
            name=arm,
            digest=f"{comparison.pk}{arm}".ljust(64, "0")[:64],
        )
        for position, arm in enumerate(arms)
    ]
    sampling = sampling_digest(comparison.sampling, comparison.seed)
    Answer.objects.bulk_create(
        Answer(
            model=arm.digest,
            item=item_digest(row),
            sampling=sampling,
            index=index,
            text=words,
            finish_reason="stop",
        )
        for arm in made
        for number, row in enumerate(rows)
        for index in range(samples)
        if (words := text(arm.name, number, index)) is not None
    )
    return comparison


def scored(comparison: Comparison, values: Callable[[str, int], float]) -> None:
    """Give every answer a score of the comparison's first scorer: `values(arm's name, item's number)`."""
    (digest, *_) = scorer_digests(comparison.scorers).values()
    arms = {arm.digest: arm.name for arm in comparison.arms.all()}
    numbers = dict(comparison.items.values_list("digest", "number"))
    Score.objects.bulk_create(
        Score(answer=one, scorer=digest, value=values(arms[one.model], numbers[one.item]))
        for one in Answer.objects.filter(model__in=arms)
    )


def voted(
    comparison: Comparison,
    voter: User,
    number: int,
    outcome: str,
    sides: tuple[str, str] = ("base", "tuned"),
    **more: Any,
) -> Vote:
    """A vote that is stored already."""
    return Vote.objects.create(
        comparison=comparison,
        voter=voter,
        outcome=outcome,
        **_about(comparison, number, sides),
        **more,
    )


def judged(
    comparison: Comparison,
    number: int,
    outcome: str,
    sides: tuple[str, str] = ("base", "tuned"),
    **more: Any,
) -> Judgement:
    """A model's judgement."""
    words = {"judge": "a" * 64, **more}
    return Judgement.objects.create(
        comparison=comparison, outcome=outcome, **_about(comparison, number, sides), **words
    )


def _about(comparison: Comparison, number: int, sides: tuple[str, str]) -> dict[str, Any]:
    arms = {arm.name: arm for arm in comparison.arms.all()}
    return {
        "item": comparison.items.get(number=number),
        "left": arms[sides[0]],
        "right": arms[sides[1]],
    }
