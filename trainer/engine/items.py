"""The prompts of an evaluation by their content, what their rows ask for, and what earlier attempts left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from trainer.answering import item_digest
from trainer.journal import read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.engine.dataset import Example, Part
    from trainer.engine.session import Session
    from trainer.methods import Row

Thing = TypeVar("Thing")

INDEX_END = 100_000
"""Numbers of samples are below this."""


@dataclass(frozen=True)
class Item:
    """One prompt."""

    digest: str
    where: str
    """Its source and row, for sentences."""
    row: Row
    example: Example | None
    """None where it could not be encoded, and where nothing is."""
    problem: str = ""
    """Why there is no example."""

    def entries(self, column: str) -> list[dict[str, Any]]:
        """The objects in a reserved column; none where the row has no such column. Raises ValueError."""
        found = self.row.get(column)
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise ValueError(f"{self.where}: '{column}' must be a list of objects")
        return found

    def index(self, column: str, entry: dict[str, Any]) -> int:
        """The number of the sample that an entry is about. Raises ValueError."""
        return self._whole(column, "index", entry.get("index"), INDEX_END)

    def text(self, column: str, entry: dict[str, Any], name: str) -> str:
        """A text of an entry. Raises ValueError."""
        if not isinstance(entry.get(name), str):
            raise ValueError(f"{self.where}: '{column}' needs a text '{name}' in each entry")
        return str(entry[name])

    def tokens(self, column: str, entry: dict[str, Any]) -> list[int]:
        """The token ids of an entry. Raises ValueError."""
        ids = entry.get("token_ids")
        if not isinstance(ids, list):
            raise ValueError(f"{self.where}: '{column}' needs a list 'token_ids' in each entry")
        return [self._whole(column, "token_ids", token, 1 << 31) for token in ids]

    def samples(self, column: str, most: int) -> list[int]:
        """The numbers of the samples that are wanted, in order; all where the row does not say.

        Raises ValueError.
        """
        wanted = self.row.get(column)
        if wanted is None:
            return list(range(most))
        if not isinstance(wanted, list):
            raise ValueError(f"{self.where}: '{column}' must be a list of whole numbers")
        return sorted({self._whole(column, "its numbers", number, most) for number in wanted})

    def _whole(self, column: str, name: str, value: Any, end: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
            raise ValueError(
                f"{self.where}: '{column}': {name} must be from 0 to {end - 1}, not {str(value)[:40]}"
            )
        return value


def items_of(parts: Sequence[Part], *, encoded: bool = True) -> dict[str, list[Item]]:
    """The items of each part in the order of its rows; `encoded` as `parts_encode` has left them.

    A prompt that stands there twice is one item, where it stands first.
    """
    seen: set[str] = set()
    found: dict[str, list[Item]] = {}
    for part in parts:
        items = found.setdefault(part.name, [])
        examples = iter(part.examples)
        for number, row in enumerate(part.rows):
            problem = part.left_out.get(number, "")
            example = next(examples) if encoded and not problem else None
            digest = item_digest(row)
            if digest not in seen:
                seen.add(digest)
                where = f"{part.name}: row {row.get('id', number + 1)}"
                items.append(Item(digest, where, row, example, problem))
    return found


def earlier(session: Session, kind: str, **like: Any) -> Iterator[dict[str, Any]]:
    """The events of a kind that earlier attempts of the run left here, which agree in the fields `like`."""
    for number in session.run.attempts():
        if number < session.attempt.number:
            for event in read_events(session.run.attempt(number).journal("samples")):
                if event.get("type") == kind and like.items() <= event.items():
                    yield event


def slices(
    things: Sequence[Thing], most: int, size: Callable[[Thing], int] = lambda _: 1
) -> Iterator[Sequence[Thing]]:
    """Runs of things whose sizes add up to at most `most` (one thing at least)."""
    first = total = 0
    for place, thing in enumerate(things):
        if place > first and total + size(thing) > most:
            yield things[first:place]
            first, total = place, 0
        total += size(thing)
    if first < len(things):
        yield things[first:]
