"""Which pairs of answers a voter may be shown: everything that `services.ballot_draw` chooses from.

A pair is two arms' answers to one prompt, of the same sample number, that are both there and differ. Some
prompts are set aside: where the comparison has an exact scorer, a fixed share of them, chosen by their
digests alone, serves as test items only. Were test items taken from the rated prompts, the pairs with a
clear winner would be missing from the ratings.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from django.db.models import F, Func, TextField, Value
from django.db.models.functions import MD5

from orchestrator.models import Answer, GoldMark, Score, Vote
from orchestrator.selectors.comparisons import scorer_key
from trainer import registry
from trainer.answering import sampling_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from orchestrator.models import Arm, Comparison, Item, User

SET_ASIDE = 0.1
"""Share of the prompts that hold test items only."""
SPACE = " \t\r\n"

Place = tuple[int, int]
"""A prompt (its row's id) and the number of a sample."""
Sides = tuple[int, int]
"""Two arms (their rows' ids), the one of lower position first."""
Pair = tuple[Place, Sides]


@dataclass
class Pool:
    """What can be shown to one voter."""

    arms: tuple[int, ...]
    """By position."""
    texts: dict[Place, dict[int, str]] = field(default_factory=dict)
    """Arm to what tells its answer from another one; failed answers are missing."""
    aside: frozenset[int] = frozenset()
    """Prompts that hold test items only."""
    gold: dict[Pair, int] = field(default_factory=dict)
    """Test items, and the arm whose answer is better."""
    votes: Counter[Pair] = field(default_factory=Counter)
    """How often each pair was voted on, by anybody, without test items."""
    seen: set[Pair] = field(default_factory=set)
    """What this voter has voted on, also where the vote was taken back."""

    def sides(self) -> list[Sides]:
        """Every two arms."""
        return list(combinations(self.arms, 2))

    def differ(self, place: Place, sides: Sides) -> bool:
        """Whether both answers are there and are not the same text."""
        texts = self.texts.get(place, {})
        first, second = texts.get(sides[0]), texts.get(sides[1])
        return first is not None and second is not None and first != second

    def rated(self, sides: Sides) -> Iterator[Place]:
        """Where the two arms can be voted on for the ratings, by anybody."""
        for place in self.texts:
            if (
                place[0] not in self.aside
                and (place, sides) not in self.gold
                and self.differ(place, sides)
            ):
                yield place

    def left(self, sides: Sides) -> list[Place]:
        """The same without what this voter has seen."""
        return [place for place in self.rated(sides) if (place, sides) not in self.seen]

    def gold_left(self) -> list[Pair]:
        """Test items that this voter has not seen."""
        return sorted(pair for pair in self.gold if pair not in self.seen and self.differ(*pair))

    def identical(self) -> int:
        """Pairs of equal answers: nobody is asked about them."""
        return sum(
            count * (count - 1) // 2
            for texts in self.texts.values()
            for count in Counter(texts.values()).values()
        )


def ballot_pool(comparison: Comparison, voter: User | None = None) -> Pool:
    """The pool of a comparison, for a voter or, without one, for somebody who has seen nothing."""
    arms = list(comparison.arms.order_by("position"))
    items = dict(comparison.items.values_list("digest", "pk"))
    place_of = {arm.pk: at for at, arm in enumerate(arms)}
    pool = Pool(
        arms=tuple(place_of),
        texts=_texts(comparison, arms, items),
        aside=set_aside(comparison, items),
    )
    pool.gold = _gold_scored(comparison, arms, items, pool.aside) | _gold_marked(
        comparison, place_of
    )
    rows = Vote.objects.filter(comparison=comparison).values_list(
        "item", "index", "left", "right", "gold", "undone", "voter"
    )
    for item, index, left, right, gold, undone, who in rows:
        pair = (item, index), _sides(left, right, place_of)
        if not gold and undone is None:
            pool.votes[pair] += 1
        if voter is not None and who == voter.pk:
            pool.seen.add(pair)
    return pool


def answers_of(comparison: Comparison, items: Collection[str] | None = None) -> Any:
    """The answers that were generated under this comparison's conditions, failed ones too.

    `items`: digests of the prompts that are wanted; all of them without it.
    """
    return Answer.objects.filter(
        sampling=sampling_digest(comparison.sampling, comparison.seed),
        model__in=[arm.digest for arm in comparison.arms.all() if arm.digest],
        item__in=comparison.items.values("digest") if items is None else items,
    )


def pair_texts(item: Item, index: int, left: Arm, right: Arm) -> tuple[str, str] | None:
    """The two answers, or None where one of them is gone."""
    found = dict(
        answers_of(item.comparison, [item.digest])
        .filter(index=index, problem="", model__in={left.digest, right.digest})
        .values_list("model", "text")
    )
    if left.digest not in found or right.digest not in found:
        return None
    return found[left.digest], found[right.digest]


def exact_scorers(comparison: Comparison) -> list[str]:
    """Digests of the scorers that say right or wrong, the deciding one first."""
    methods = registry.family("rewards")
    return [
        scorer_key(knobs)
        for knobs in comparison.scorers
        if getattr(methods.get(str(knobs.get("type"))), "exact", False)
    ]


def set_aside(comparison: Comparison, items: dict[str, int]) -> frozenset[int]:
    """The prompts that hold test items only: none without an exact scorer."""
    if not exact_scorers(comparison):
        return frozenset()

    def drawn(digest: str) -> str:
        return hashlib.sha256(f"{comparison.pk}/{digest}".encode()).hexdigest()

    count = int(len(items) * SET_ASIDE)
    return frozenset(items[digest] for digest in sorted(items, key=drawn)[:count])


def _texts(
    comparison: Comparison, arms: list[Arm], items: dict[str, int]
) -> dict[Place, dict[int, str]]:
    """Hashes of the answers that did not fail; space around a text cannot be seen and does not count."""
    arms_of = defaultdict(list)
    for arm in arms:
        arms_of[arm.digest].append(arm.pk)
    found: dict[Place, dict[int, str]] = defaultdict(dict)
    bare = Func(F("text"), Value(SPACE), function="BTRIM", output_field=TextField())
    rows = answers_of(comparison).filter(problem="").annotate(hash=MD5(bare))
    for model, item, index, text in rows.values_list("model", "item", "index", "hash"):
        for arm in arms_of[model]:
            found[items[item], index][arm] = text
    return dict(found)


def _gold_scored(
    comparison: Comparison, arms: list[Arm], items: dict[str, int], aside: frozenset[int]
) -> dict[Pair, int]:
    """Pairs on the set-aside prompts of which the exact scorer called one right and the other wrong."""
    digests = {digest: pk for digest, pk in items.items() if pk in aside}
    if not digests:
        return {}
    arms_of = defaultdict(list)
    for arm in arms:
        arms_of[arm.digest].append(arm.pk)
    values: dict[Place, dict[int, float]] = defaultdict(dict)
    deciding = exact_scorers(comparison)[0]
    rows = Score.objects.filter(
        scorer=deciding, value__isnull=False, answer__in=answers_of(comparison, list(digests))
    )
    fields = ("answer__model", "answer__item", "answer__index", "value")
    for model, item, index, value in rows.values_list(*fields):
        for arm in arms_of[model]:
            values[digests[item], index][arm] = value
    found: dict[Pair, int] = {}
    for place, of_arms in values.items():
        for first, second in combinations([arm.pk for arm in arms if arm.pk in of_arms], 2):
            if of_arms[first] >= 1 and of_arms[second] <= 0:
                found[place, (first, second)] = first
            elif of_arms[second] >= 1 and of_arms[first] <= 0:
                found[place, (first, second)] = second
    return found


def _gold_marked(comparison: Comparison, place_of: dict[int, int]) -> dict[Pair, int]:
    rows = GoldMark.objects.filter(comparison=comparison)
    return {
        ((item, index), _sides(better, worse, place_of)): better
        for item, index, better, worse in rows.values_list("item", "index", "better", "worse")
    }


def _sides(one: int, other: int, place_of: dict[int, int]) -> Sides:
    return (one, other) if place_of[one] < place_of[other] else (other, one)
