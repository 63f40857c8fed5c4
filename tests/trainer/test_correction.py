"""What the spec refuses of corrections, and what it takes."""

from __future__ import annotations

import pytest

from trainer.correction import Correction
from trainer.spec import SpecError, spec_parse

GRPO = {"objective": {"type": "grpo"}, "rewards": [{"type": "exact-match"}]}


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        ({"weight": "token", "old_policy": "sampler"}, "would correct a second time"),
        ({"weight_cap": 0.5}, "greater than or equal to 1"),
        ({"reject": "tokens"}, "'none', 'token', 'sequence' or 'geometric'"),
        ({"reject_below": 1.5}, "less than or equal to 1"),
    ],
)
def test_bug_46_a_correction_that_cannot_be_meant_is_refused(correction, words):
    with pytest.raises(SpecError) as error:
        spec_parse({**GRPO, "correction": correction})
    (problem,) = error.value.problems
    assert problem.path.startswith("correction") and words in problem.message


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_who_learns_from_written_answers_has_no_sampler_to_correct(objective):
    raw = {"objective": {"type": objective}, "correction": {"old_policy": "trainer"}}
    with pytest.raises(SpecError) as error:
        spec_parse(raw)
    assert "correction" in [problem.path for problem in error.value.problems]


def test_three_policies_and_both_kinds_of_correction_go_together():
    spec = spec_parse(
        {
            **GRPO,
            "correction": {"old_policy": "trainer", "weight": "token", "reject": "geometric"},
        }
    )
    assert spec.correction.acts and spec.correction.weight_cap == 2


@pytest.mark.parametrize(
    ("staleness", "given", "old_policy", "weight"),
    [
        (0, {}, "sampler", "none"),
        (0, {"old_policy": "trainer"}, "trainer", "token"),
        (2, {}, "trainer", "token"),
        (2, {"old_policy": "sampler"}, "sampler", "none"),
        (2, {"weight": "none"}, "trainer", "none"),
    ],
)
def test_stale_answers_are_made_good_unless_somebody_says_otherwise(
    staleness, given, old_policy, weight
):
    found = Correction(**given).resolved(staleness)
    assert (found.old_policy, found.weight) == (old_policy, weight)
    assert found.resolved(staleness) == found


def test_bug_46_a_weight_without_three_policies_is_refused_also_where_nobody_named_them():
    with pytest.raises(SpecError, match=r"correct a second time"):
        spec_parse({**GRPO, "correction": {"weight": "token"}})
