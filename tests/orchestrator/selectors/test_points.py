"""Points that are packed while somebody reads are seen once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import blocks
from orchestrator.selectors import points
from orchestrator.selectors.points import BlocksMoved, columns_read, points_stored
from orchestrator.selectors.series import points_after, series_read
from orchestrator.services.compaction import pack
from tests.orchestrator.telemetry import lines, push, stored_steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


@pytest.fixture
def pack_before(monkeypatch: pytest.MonkeyPatch, run: Run) -> Callable[[str], None]:
    """Pack the run once, right before a function of `selectors.points` looks."""

    def arrange(name: str) -> None:
        look, waiting = getattr(points, name), [True]

        def packed_look(*arguments: Any) -> Any:
            if waiting:
                waiting.clear()
                pack(run_id=run.pk, attempt=1)
            return look(*arguments)

        monkeypatch.setattr(points, name, packed_look)

    return arrange


@pytest.mark.parametrize("look", ["_tails", "_heads", "_fields_read"])
def test_points_that_move_between_two_looks_are_seen_once(
    run: Run, pack_before: Callable[[str], None], look: str
) -> None:
    push(run, lines(1, 20))
    pack(run_id=run.pk, attempt=1)
    # Joined with the block of the first ones: that block is gone.
    push(run, lines(21, 60))
    pack_before(look)
    assert series_read(run=run, keys=["loss"])["loss"]["x"] == list(range(1, 61))


@pytest.mark.parametrize("look", ["_tails", "_heads", "_fields_read"])
def test_deltas_that_move_between_two_looks_are_seen_once(
    run: Run, pack_before: Callable[[str], None], look: str
) -> None:
    push(run, lines(1, 20))
    pack(run_id=run.pk, attempt=1)
    push(run, lines(21, 60))
    pack_before(look)
    found, _ = points_after(run=run, keys=["loss"], after={"attempt": 1, "seq": 10})
    assert [point[0] for point in found["loss"]] == list(range(11, 61))


def test_a_live_delta_looks_into_no_block(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    push(run, lines(1, 20))
    pack(run_id=run.pk, attempt=1)
    push(run, lines(21, 25))
    monkeypatch.setattr(points, "_heads", None)
    found, _ = points_after(run=run, keys=["loss"], after={"attempt": 1, "seq": 22})
    assert [point[0] for point in found["loss"]] == [23, 24, 25]


def test_a_block_that_is_gone_is_said(run: Run) -> None:
    with pytest.raises(BlocksMoved):
        columns_read([(1, 1, 0, 1)], ["values"])


def test_a_million_points_are_read_by_their_picks(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A curve of whole blocks needs no point of theirs; a zoom needs those of the blocks that it cuts."""
    monkeypatch.setattr(blocks, "BLOCK", 1024)
    for first in range(1, 10_001, 2000):
        push(run, lines(first, first + 1999))
    while pack(run_id=run.pk, attempt=1).chunks:
        pass
    asked: list[int] = []
    look = points._fields_read

    def counted(keys: Any, columns: Any) -> Any:
        asked.append(len(keys) if "values" in columns else 0)
        return look(keys, columns)

    monkeypatch.setattr(points, "_fields_read", counted)
    curve = series_read(run=run, keys=["loss"], points=30)["loss"]
    assert (curve["total"], curve["y"][0], curve["y"][-1], sum(asked)) == (10_000, 1, 10_000, 0)
    asked.clear()
    curve = series_read(run=run, keys=["loss"], points=30, start=1500, end=9000)["loss"]
    assert (curve["x"][0], curve["x"][-1], curve["total"]) == (1500, 9000, 7501)
    assert sum(asked) == 2
    asked.clear()
    assert series_read(run=run, keys=["loss"], start=1500, end=1600)["loss"]["x"] == list(
        range(1500, 1601)
    )
    assert sum(asked) == 1


def test_every_stored_point_is_there_in_order(run: Run) -> None:
    push(run, lines(1, 5))
    pack(run_id=run.pk, attempt=1)
    push(run, lines(6, 9))
    assert stored_steps(run) == list(range(1, 10))
    assert points_stored(run, ["nothing"]) == {}
