"""What the spec refuses of corrections, and what it takes."""

from __future__ import annotations

import pytest

from trainer.spec import SpecError, spec_parse

GRPO = {"objective": {"type": "grpo"}, "rewards": [{"type": "exact-match"}]}


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        ({"weight": "token"}, "would correct a second time"),
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
