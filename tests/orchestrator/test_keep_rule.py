"""Retention rules: what one removes, and what none ever does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.keep_rule import DAY, KeepRule, Kept, decide

NOW = 1_790_000_000.0


def kept(step: int, **fields) -> Kept:
    usual = {
        "id": f"c{step}",
        "run": "r",
        "attempt": 1,
        "created": NOW - step,
        "bytes": 100,
        "value": None,
        "metric": "eval/reward",
    }
    return Kept(step=step, **{**usual, **fields})


def gone(rule: KeepRule, saved: list[Kept]) -> list[int]:
    return sorted(one.step for one in decide(rule, saved, NOW).going)


def rule(**parts) -> KeepRule:
    return KeepRule(**{"keep_last": 0, "keep_best": 0, **parts})


def test_the_newest_the_best_and_every_so_many_stay():
    values = {10: 0.1, 20: 0.9, 30: 0.2, 40: 0.4, 50: 0.3}
    saved = [kept(step, value=value) for step, value in values.items()]
    assert gone(rule(keep_last=2), saved) == [10, 20, 30]
    assert gone(rule(keep_best=2), saved) == [10, 30, 50]
    assert gone(rule(keep_every=20), saved) == [10, 30, 50]
    assert gone(rule(keep_last=1, keep_best=1, keep_every=30), saved) == [10, 40]


def test_for_a_loss_the_lowest_is_the_best_and_what_is_no_number_never():
    values = {10: 0.5, 20: 0.1, 30: float("nan"), 40: None, 50: float("inf")}
    saved = [kept(step, value=value, metric="eval/loss") for step, value in values.items()]
    assert gone(rule(keep_best=1), saved) == [10, 30, 40, 50]
    assert gone(rule(keep_best=5), saved) == [30, 40, 50]


def test_of_equal_ones_the_newer_is_the_best():
    assert gone(rule(keep_best=1), [kept(10, value=0.5), kept(20, value=0.5)]) == [10]


def test_only_what_is_older_goes():
    saved = [kept(10, created=NOW - 8 * DAY), kept(20, created=NOW - 6 * DAY)]
    assert gone(rule(older_than_days=7), saved) == [10]


def test_every_run_counts_for_itself():
    saved = [kept(step, run=run, id=f"{run}{step}") for run in "ab" for step in (1, 2, 3)]
    assert [one.id for one in decide(rule(keep_last=1), saved, NOW).going] == [
        *("a2", "a1", "b2", "b1")
    ]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"protection": "pinned"}, "pinned"),
        ({"protection": "approved"}, "approved"),
        ({"needed": ("b needs it and has not ended",)}, "b needs it and has not ended"),
        ({"children": ("b",)}, "b came from it"),
        ({"children": tuple("bcdef")}, "b, c, d and 2 more came from it"),
    ],
)
def test_what_stays_under_any_rule_says_why(fields, why):
    decision = decide(rule(keep_last=1), [kept(1, **fields), kept(2)], NOW)
    assert decision.going == []
    assert [one.why for one in decision.verdicts if one.kept.step == 1] == [(why,)]


def test_it_takes_nobody_elses_place():
    saved = [kept(1), kept(2), kept(3, protection="pinned")]
    assert gone(rule(keep_last=1), saved) == [1, 2]


def test_each_reason_is_told():
    (verdict,) = decide(
        rule(keep_last=2, keep_best=1, keep_every=5, older_than_days=1),
        [kept(10, value=0.5)],
        NOW,
    ).verdicts
    assert verdict.why == (
        "one of the newest 2",
        "the best by eval/reward (0.5)",
        "at a multiple of 5 steps",
        "younger than 1 day",
    )


def test_a_rule_that_would_keep_nothing_is_refused():
    with pytest.raises(ValidationError, match="would keep nothing of any run; set at least one"):
        rule()
    for wrong in ({"keep_last": -1}, {"older_than_days": float("inf")}, {"keep_lsat": 1}):
        with pytest.raises(ValidationError):
            KeepRule(**wrong)


# --- for any checkpoints and any rule ------------------------------------------------------------

RULES = st.builds(
    KeepRule,
    keep_last=st.integers(1, 4),
    keep_best=st.integers(0, 4),
    keep_every=st.sampled_from([0, 1, 2, 3, 7]),
    older_than_days=st.sampled_from([0.0, 0.5, 2.0]),
)
VALUES = st.one_of(st.none(), st.floats(allow_nan=True), st.sampled_from([0.0, 0.5, 1.0]))


@st.composite
def checkpoints(draw) -> list[Kept]:
    found = []
    places = draw(st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=20))
    for run, step in sorted(places):
        found.append(
            kept(
                step,
                id=f"{run}{step}",
                run=run,
                attempt=draw(st.integers(1, 3)),
                created=NOW - draw(st.floats(0, 5 * DAY)),
                bytes=draw(st.integers(0, 10**12)),
                value=draw(VALUES),
                metric=draw(st.sampled_from(["eval/reward", "eval/loss"])),
                protection=draw(st.sampled_from(["", "", "", "pinned", "approved"])),
                needed=draw(st.sampled_from([(), (), ("x needs it",)])),
                children=draw(st.sampled_from([(), (), ("y",)])),
            )
        )
    return found


@settings(max_examples=200, deadline=None)
@given(RULES, checkpoints(), st.randoms(use_true_random=False))
def test_for_any_checkpoints_a_rule_keeps_its_promises(rule, saved, random):
    decision = decide(rule, saved, NOW)
    shuffled = list(saved)
    random.shuffle(shuffled)
    assert decide(rule, shuffled, NOW) == decision, (
        "the order in which they are told changes nothing"
    )
    assert sorted(one.kept.id for one in decision.verdicts) == sorted(one.id for one in saved)
    going = {one.id for one in decision.going}
    for one in saved:
        if one.protection or one.needed or one.children:
            assert one.id not in going
        if NOW - one.created < rule.older_than_days * DAY:
            assert one.id not in going
    for run in {one.run for one in saved}:
        mine = [one for one in saved if one.run == run]
        newest = max(mine, key=lambda one: (one.step, one.attempt))
        assert newest.id not in going, "a run never loses its newest"
        alone = {one.id for one in decide(rule, mine, NOW).going}
        assert alone == going & {one.id for one in mine}, "other runs have no say"
    assert decision.freed == sum(one.bytes for one in saved if one.id in going)
    assert decision.freed + decision.stays == sum(one.bytes for one in saved)


@settings(max_examples=200, deadline=None)
@given(RULES, checkpoints())
def test_applied_twice_a_rule_finds_nothing_more(rule, saved):
    going = {one.id for one in decide(rule, saved, NOW).going}
    left = [one for one in saved if one.id not in going]
    assert decide(rule, left, NOW).going == []


@settings(max_examples=200, deadline=None)
@given(RULES, checkpoints(), st.sampled_from(["keep_last", "keep_best", "older_than_days"]))
def test_a_more_generous_rule_removes_no_more(rule, saved, part):
    more = rule.model_copy(update={part: getattr(rule, part) + 1})
    less = {one.id for one in decide(more, saved, NOW).going}
    assert less <= {one.id for one in decide(rule, saved, NOW).going}


@settings(max_examples=100, deadline=None)
@given(checkpoints())
def test_the_digest_tells_decisions_apart(saved):
    one, other = decide(rule(keep_last=1), saved, NOW), decide(rule(keep_every=5), saved, NOW)
    same = {kept.id for kept in one.going} == {kept.id for kept in other.going}
    assert (one.digest == other.digest) == same
