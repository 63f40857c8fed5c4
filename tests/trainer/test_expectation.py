"""What a phase is expected to take: generous at first, tight once enough was seen, never shorter than that."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.expectation import (
    ENOUGH,
    LONG,
    MOST,
    ORDINARY,
    PHASES_MOST,
    TIGHT,
    TIMES,
    Expectations,
    expectations_read,
    expectations_write,
    promise_ordinary,
    scaled,
)

SILENCES = st.lists(st.floats(0, 50_000), max_size=60)
PHASES = st.sampled_from(["load", "rollout", "update", "checkpoint", "warm-up/update"])


def known(silences, phase="rollout", ordinary=ORDINARY):
    found = Expectations(ordinary)
    for silence in silences:
        found.take(phase, silence)
    return found


@pytest.mark.parametrize(
    ("phase", "seconds"), [("rollout", 60), ("load", 300), ("checkpoint", 600)]
)
def test_the_first_guess_is_generous(phase, seconds):
    assert Expectations(60.0).of(phase) == seconds


def test_a_warm_ups_checkpoint_is_as_long_as_another():
    assert Expectations(60.0).of("warm-up/checkpoint") == 600


def test_it_gets_tight_once_enough_was_seen():
    assert known([0.5] * (ENOUGH - 1)).of("rollout") == 60
    assert known([0.5] * ENOUGH).of("rollout") == 15


def test_phases_learn_apart():
    found = known([30.0] * ENOUGH)
    assert (found.of("rollout"), found.of("update")) == (90, 60)


def test_a_slow_phase_that_was_seen_is_waited_for():
    found = known([1.0] * ENOUGH + [14.0])
    assert found.of("rollout") == 42


def test_a_hang_does_not_make_hanging_usual():
    found = known([1.0] * ENOUGH)
    found.take("rollout", 7200.0)
    assert found.of("rollout") == TIMES * 15


@given(SILENCES, PHASES)
def test_no_silence_that_was_kept_once_breaks_the_next_promise(silences, phase):
    found = Expectations(60.0)
    for silence in silences:
        kept = silence <= found.of(phase)
        found.take(phase, silence)
        if kept:
            assert silence <= found.of(phase)


@given(SILENCES, st.floats(1, 3600))
def test_it_lies_between_its_least_and_a_day(silences, ordinary):
    found = known(silences, "checkpoint", ordinary)
    assert min(MOST, ordinary * LONG["checkpoint"] * TIGHT) <= found.of("checkpoint") <= MOST


@given(SILENCES)
def test_what_is_expected_never_depends_on_the_order_of_ordinary_silences(silences):
    ordinary = [silence % 15 for silence in silences]
    assert known(ordinary).of("rollout") == known(sorted(ordinary)).of("rollout")


@given(silences=SILENCES)
def test_a_later_attempt_starts_generous_and_remembers_the_longest(silences, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "expectations.json"
    before = known(silences)
    expectations_write(path, before)
    after = expectations_read(path)
    longest = before.longest.get("rollout", 0.0)
    assert after.of("rollout") == pytest.approx(min(MOST, max(60.0, TIMES * longest)), abs=0.01)
    assert after.seen == {}


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", '{"longest": 3}', '{"longest": {"rollout": "9"}}', '{"longest": {"rollout": -1}}',
     '{"longest": {"rollout": 1e300}}', '{"longest": {"rollout": NaN}}'],
)  # fmt: skip
def test_a_spoiled_file_counts_as_none(tmp_path, text):
    path = tmp_path / "expectations.json"
    if text is not None:
        path.write_text(text)
    assert expectations_read(path).of("rollout") == 60


def test_a_file_with_countless_phases_is_cut(tmp_path):
    path = tmp_path / "expectations.json"
    path.write_text(json.dumps({"longest": {f"p{number}": 1 for number in range(5000)}}))
    assert len(expectations_read(path).longest) == PHASES_MOST


def test_the_words_name_the_history():
    assert "first guess" in Expectations(60.0).words("rollout")
    assert "of 20 silences took 0.5 s" in known([0.5] * ENOUGH).words("rollout")
    assert known([30.0]).words("rollout") == "3 times the longest silence of this run in it, 30 s"


def test_the_promise_is_a_setting(monkeypatch):
    monkeypatch.setenv("ANNEAL_PROMISE", "6")
    assert (promise_ordinary(), scaled(30.0), Expectations().of("load")) == (6, 3, 30)


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "inf", "99999"])
def test_a_promise_that_is_none_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv("ANNEAL_PROMISE", text)
    with pytest.raises(ValueError, match=r"ANNEAL_PROMISE is .* from 1 to 3600"):
        promise_ordinary()
    assert scaled(30.0) == 30.0
