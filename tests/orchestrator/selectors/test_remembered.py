"""What is remembered is what was made, and not without end."""

from __future__ import annotations

import pytest

from orchestrator.selectors.remembered import Remembered


def test_it_makes_a_thing_once() -> None:
    kept: Remembered[object] = Remembered(2)
    first = kept.get("a", object)
    assert kept.get("a", object) is first
    assert kept.get("b", object) is not first


def test_it_forgets_what_was_not_asked_for_longest() -> None:
    kept: Remembered[object] = Remembered(2)
    first, second = kept.get("a", object), kept.get("b", object)
    assert kept.get("a", object) is first
    kept.get("c", object)
    assert kept.get("a", object) is first and kept.get("b", object) is not second


def test_what_raises_is_not_kept() -> None:
    kept: Remembered[object] = Remembered(2)

    def broken() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError):
        kept.get("a", broken)
    assert kept.get("a", object) is not None
