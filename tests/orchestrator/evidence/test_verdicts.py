"""The verdict: four words, and a sentence that claims no more than the evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.evidence import Difference, Effect, Evidence, Interval, LeftOut, Power, verdict
from orchestrator.evidence.verdicts import figure, p_text, signed

CLEAR = Evidence(
    candidate="new",
    baseline="old",
    difference=Difference(
        0.41,
        0.32,
        0.09,
        Interval(0.06, 0.12, 0.95, "bootstrap-t over prompts"),
        1319,
        0.5,
        (3, 3),
        0.001,
    ),
    effect=Effect(0.18, "negligible", 0.09, 1.9, Interval(1.5, 2.4, 0.95, "exact")),
    power=Power(0.05, 0.9, 0.04, 1000, 0, 300, 0.8, 0.05),
    p=0.0002,
    p_corrected=0.012,
    test="t over training seeds",
    correction="holm",
    comparisons=6,
    left_out=LeftOut(0, 0, {}),
)


def changed(
    low: float, high: float, *, p: float, seeds: tuple[int, int] = (3, 3), **power: object
) -> Evidence:
    middle = (low + high) / 2
    found = replace(
        CLEAR.difference,
        difference=middle,
        interval=replace(CLEAR.difference.interval, low=low, high=high),
        seeds=seeds,
    )
    return replace(CLEAR, difference=found, p_corrected=p, power=replace(CLEAR.power, **power))  # type: ignore[arg-type]


SCARCE = {"at_margin": 0.3, "needed": 4_000, "more": 2_681}


def test_better_names_everything() -> None:
    found = verdict(CLEAR)
    assert found.word == "better"
    assert found.caution == ""
    assert found.sentence == (
        "“new” is better than “old”: 0.410 against 0.320 on 1,319 prompts and 3 against 3 training seeds, "
        "a difference of +0.090 (95 % interval +0.060 to +0.120; p = 0.012, t over training seeds, "
        "Holm over 6 comparisons; Cohen's d_z +0.18, negligible; odds ratio 1.90 among prompts that one alone "
        "solved). Prompts still needed to tell the two apart: none."
    )


def test_worse_is_its_mirror_image() -> None:
    found = verdict(changed(-0.12, -0.06, p=0.012))
    assert found.word == "worse"
    assert "“new” is worse than “old”" in found.sentence
    assert "−0.090 (95 % interval −0.120 to −0.060" in found.sentence


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (changed(0.001, 0.2, p=0.05, **SCARCE), "better"),
        (changed(0.001, 0.2, p=0.051, **SCARCE), "not enough data"),
        (changed(0.0, 0.2, p=0.01, **SCARCE), "not enough data"),
        (changed(-0.2, 0.1, p=0.4, **SCARCE), "not enough data"),
        (changed(-0.2, 0.1, p=0.4, at_margin=0.79), "not enough data"),
        (changed(-0.2, 0.1, p=0.4, at_margin=0.8), "no difference found"),
        (changed(-0.049, 0.049, p=0.4, **SCARCE), "no difference found"),
        (changed(-0.05, 0.04, p=0.4, **SCARCE), "not enough data"),
        # Smaller than what matters, and there all the same: it is said as it is.
        (changed(0.01, 0.03, p=0.01), "better"),
        (changed(0.01, 0.03, p=0.2), "no difference found"),
    ],
)
def test_each_word_needs_its_evidence(evidence: Evidence, word: str) -> None:
    assert verdict(evidence).word == word


def test_a_handful_of_prompts_has_looked_for_nothing() -> None:
    inside = changed(-0.01, 0.01, p=0.9)
    for prompts, word in ((19, "not enough data"), (20, "no difference found")):
        found = verdict(replace(inside, difference=replace(inside.difference, prompts=prompts)))
        assert found.word == word
        assert ("Prompts still needed: 1 more at least" in found.sentence) == (prompts == 19)


def test_not_enough_data_says_how_much_more() -> None:
    found = verdict(changed(-0.2, 0.1, p=0.4, **SCARCE))
    assert found.sentence.startswith("Not enough data to tell “new” from “old”: ")
    assert found.sentence.endswith(
        "Prompts still needed to find a difference of 0.05 with a chance of 80 %: about 2,681 more, 4,000 in all."
    )
    assert "no difference" not in found.sentence


def test_no_difference_found_is_not_no_difference() -> None:
    inside = verdict(changed(-0.04, 0.04, p=0.4)).sentence
    assert inside.startswith("No difference found between “new” and “old”: ")
    assert "The whole interval lies nearer to 0 than 0.05." in inside
    powered = verdict(changed(-0.06, 0.04, p=0.4, at_margin=0.84)).sentence
    assert "would have been found with a chance of 84 %; a smaller one might be there." in powered
    for sentence in (inside, powered):
        assert "equal" not in sentence
        assert "the same" not in sentence


def test_an_interval_and_a_p_that_disagree_are_both_told() -> None:
    assert (
        "leaves 0 out, but p is above 0.05"
        in verdict(changed(0.001, 0.2, p=0.07, **SCARCE)).sentence
    )
    assert (
        "p is at most 0.05, but the interval holds 0"
        in verdict(changed(-0.01, 0.2, p=0.04, **SCARCE)).sentence
    )


@pytest.mark.parametrize(
    ("seeds", "who"), [((1, 1), "“new” and “old”"), ((1, 3), "“new”"), ((3, 1), "“old”")]
)
@pytest.mark.parametrize(
    "ends", [(0.06, 0.12, 0.01), (-0.12, -0.06, 0.01), (-0.01, 0.01, 0.5), (-0.2, 0.3, 0.5)]
)
def test_one_training_seed_says_so_first(
    seeds: tuple[int, int], who: str, ends: tuple[float, float, float]
) -> None:
    low, high, p = ends
    found = verdict(changed(low, high, p=p, seeds=seeds, **SCARCE))
    assert found.sentence.startswith("One training seed: ")
    assert found.caution.startswith(
        f"One training seed of {who}: this speaks of these checkpoints."
    )


def test_seeds_that_differ_too_much_ask_for_seeds() -> None:
    found = verdict(changed(-0.2, 0.3, p=0.5, at_margin=0.1, needed=None, more=None))
    assert "training seeds differ too much, so add seeds" in found.sentence


def test_what_was_left_out_is_a_caution() -> None:
    found = verdict(replace(CLEAR, left_out=LeftOut(2, 5, {"new: the judge did not answer": 5})))
    assert (
        "Left out: 2 prompts and 5 failed items: new: the judge did not answer (5)."
        in found.caution
    )
    assert found.word == "better"


def test_a_single_comparison_names_no_correction() -> None:
    found = verdict(replace(CLEAR, comparisons=1))
    assert "Holm" not in found.sentence
    assert (
        "Benjamini-Hochberg over 6"
        in verdict(replace(CLEAR, correction="benjamini-hochberg")).sentence
    )


def test_without_spread_no_effect_size_is_made_up() -> None:
    same = replace(CLEAR, effect=Effect(None, "none", 0.0, None, None))
    assert "; no effect)" in verdict(same).sentence
    shifted = replace(CLEAR, effect=Effect(None, "large", 1.0, None, None))
    assert "since prompts do not vary" in verdict(shifted).sentence


def test_numbers_are_written_for_people() -> None:
    assert [figure(x) for x in (0.12345, 9.9999, 12.345, 1234.5, 123456.7)] == [
        "0.123",
        "10.000",
        "12.35",
        "1,234",
        "123,457",
    ]
    assert [signed(x) for x in (0.1, -0.1, 0.0001, -0.0001)] == [
        "+0.100",
        "−0.100",
        "0.000",
        "0.000",
    ]
    assert [p_text(p) for p in (0.0001, 0.0321, 0.04999, 0.0504, 1.0)] == [
        "p < 0.001",
        "p = 0.032",
        "p = 0.050",
        "p = 0.05040",
        "p = 1.000",
    ]
