"""The oracle breaks no rule of its own: what is true passes, and each untruth that lasts is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.oracle import Patience, View, path_breaks, violations

PATIENCE = Patience(lease=9.0, promise=20.0, fence=6.0, slack=3.0)
USUAL = View(0.0, "running", "", 1, {1: "S"}, {1: "S"}, {1: "S"}, True, "S")


def life(seconds: float, **so: Any) -> list[View | None]:
    """Views five times a second, all alike."""
    return [USUAL._replace(time=number / 5, **so) for number in range(round(seconds * 5) + 1)]


def truth(view: View | None) -> View:
    """The same moment as it would be if all were well."""
    assert view is not None
    return USUAL._replace(time=view.time, attempt=view.attempt, **_parts(view.attempt))


def _parts(attempt: int) -> dict[str, Any]:
    return {name: {attempt: "S"} for name in ("trainers", "hosts", "ships")}


def rules(views: list[View | None]) -> list[str]:
    return [one.rule for one in violations(views, PATIENCE)]


@pytest.mark.parametrize(
    "so",
    [
        {},
        {"state": "queued", "attempt": 0, "trainers": {}, "hosts": {}, "ships": {}},
        {"state": "lost", "open": False},
        {"state": "lost", "hosts": {}, "ships": {}, "works": ""},
        {"state": "lost", "hosts": {1: "T"}, "ships": {1: "T"}, "works": "T"},
        {"state": "starting", "trainers": {}, "hosts": {}, "ships": {}},
        {"trainers": {1: "T"}, "reason": "The trainer has said nothing since 12:00:00 UTC"},
        {"state": "finished", "trainers": {}, "hosts": {1: "S"}},
        {"attempt": 2, "trainers": {1: "S", 2: "S"}, "hosts": {2: "S"}, "open": False},
    ],
)
def test_what_is_true_may_last(so):
    assert rules(life(120, **so)) == []


@pytest.mark.parametrize(
    ("so", "most", "rule"),
    [
        ({"trainers": {}, "hosts": {}, "ships": {}}, 12, "nothing of it lives"),
        (
            {"state": "starting", "trainers": {}, "hosts": {}, "ships": {}, "works": ""},
            12,
            "nothing",
        ),
        ({"state": "lost"}, 12, "works in contact"),
        ({"state": "failed"}, 12, "works in contact"),
        ({"state": "queued", "hosts": {}, "ships": {}}, 12, "works in contact"),
        ({"trainers": {}}, 12, "its host could say"),
        ({"state": "stopping", "trainers": {}}, 12, "its host could say"),
        ({"trainers": {1: "T"}}, 23, "nobody says that its trainer is silent"),
        ({"trainers": {}, "hosts": {1: "T"}}, 23, "nobody says that its trainer is silent"),
        ({"attempt": 2, "trainers": {1: "S", 2: "S"}, "hosts": {2: "S"}}, 18, "two trainers"),
    ],
)
def test_an_untruth_may_last_for_promise_and_grace_and_not_longer(so, most, rule):
    assert not [one for one in rules(life(most - 0.4, **so)) if rule in one]
    assert [one for one in rules(life(most + 0.4, **so)) if rule in one]
    # A moment of truth begins the count again, and so does another attempt.
    half = round(most * 5 / 2)
    views = life(most + 0.4, **so)
    silent = [*views[:half], *[None] * 10, *views[half + 10 :]]
    assert [one for one in rules(silent) if rule in one]
    for behind in (
        [*views[:half], *views[half + 25 :]],
        [*views[:half], truth(views[half]), *views[half:]],
    ):
        assert not [one for one in rules(behind) if rule in one]


def test_a_history_has_no_gap_and_no_step_that_no_state_allows():
    good = [("queued", "starting"), ("starting", "running"), ("running", "running")]
    assert path_breaks([*good, ("running", "lost"), ("lost", "queued")]) == []
    assert path_breaks([*good, ("lost", "queued")]) == ["it was running, and then left lost"]
    assert path_breaks([*good, ("running", "finished"), ("finished", "running")]) == [
        "finished became running"
    ]
