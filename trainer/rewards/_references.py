"""What several scorers compare with: the reference answers of a row, and how well a text overlaps with one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.registry import Unscorable


def references(row: Mapping[str, Any], column: str) -> list[str]:
    """The texts in a column that holds one or a list of them.

    Raises Unscorable where there are none, or something else.
    """
    found = row.get(column)
    if isinstance(found, (str, int, float)) and not isinstance(found, bool):
        return [str(found)]
    if isinstance(found, (list, tuple)) and found and all(isinstance(one, str) for one in found):
        return list(found)
    if found is None or found in ([], ()):
        raise Unscorable(f"the row has no reference in '{column}'")
    raise Unscorable(f"'{column}' holds no text and no list of texts")


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit by bit (Hyyrö 2004): a row of the table is one integer."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    row = whole
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & whole
    return len(one) - row.bit_count()


def common_grams(one: Sequence[str], other: Sequence[str], size: int) -> tuple[int, int, int]:
    """N-grams that both have, each as often as in the poorer text; then those of one, and of the other."""
    counts = [
        Counter(tuple(words[first : first + size]) for first in range(len(words) - size + 1))
        for words in (one, other)
    ]
    shared = sum((counts[0] & counts[1]).values())
    return shared, counts[0].total(), counts[1].total()
