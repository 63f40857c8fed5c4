"""Groups are what their ids say; what cannot be compared or scored has no advantage."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.known_bugs.support import gathered, make_learner, sampled_answers
from trainer.engine.means import Means
from trainer.registry import Outcomes, family

KNOBS = [
    (tag, knobs)
    for tag, method in family("advantages").items()
    for knobs in (
        [{"scale": scale} for scale in get_args(method.model_fields["scale"].annotation)]
        if "scale" in method.model_fields
        else [{}]
    )
]
NAMES = [" ".join([tag, *knobs.values()]) for tag, knobs in KNOBS]
GROUPED = [
    pytest.param(tag, knobs, id=" ".join([tag, *knobs.values()]))
    for tag, knobs in KNOBS
    if "group" in family("advantages")[tag].needs
]


def method_of(tag, knobs):
    return family("advantages")[tag](type=tag, **knobs)


def outcomes(rewards, groups, width=3, seed=0):
    """Ragged answers with everything that an advantage may look at."""
    draw = torch.Generator().manual_seed(seed)
    count = len(rewards)
    lengths = 1 + torch.arange(count) % width
    return Outcomes(
        reward_N=torch.tensor(rewards, dtype=torch.float32),
        group_N=torch.tensor(groups),
        mask_NT=torch.arange(width)[None, :] < lengths[:, None],
        parts_NK=torch.tensor(rewards, dtype=torch.float32)[:, None],
        part_weight_K=torch.ones(1),
        greedy_N=torch.rand(count, generator=draw),
        value_NT=torch.rand(count, width, generator=draw),
    )


def permuted(given, order):
    fields = ("reward_N", "group_N", "mask_NT", "parts_NK", "greedy_N", "value_NT")
    moved = {name: getattr(given, name)[order] for name in fields}
    return Outcomes(**moved, part_weight_K=given.part_weight_K)


@pytest.mark.parametrize(("tag", "knobs"), KNOBS, ids=NAMES)
def test_bug_25_permuted_answers_have_permuted_advantages(tag, knobs):
    method = method_of(tag, knobs)
    given = outcomes([1.0, 0.0, 0.4, 0.9, 0.1, 0.2, 0.7, 0.3, 1.0], [0, 0, 0, 1, 1, 1, 2, 2, 2])
    order = torch.tensor([8, 0, 3, 6, 1, 4, 7, 2, 5])
    before = method.advantages(given)
    after = method.advantages(permuted(given, order))
    assert bool((before != 0).any())
    assert torch.allclose(after, before[order], atol=1e-6)


def test_bug_25_an_answer_is_compared_with_the_answers_to_its_own_prompt(session, graded):
    """Not with those of the batch, and not with the group beside it: recomputed from what was published."""
    policy = make_policy()
    gathered(session, policy, "objective.type=grpo", "rollout.group_size=3")
    answers = sampled_answers(session, policy)
    assert len(answers) == 12
    prompts = {answer.event["prompt_id"]: [] for answer in answers}
    for answer in answers:
        prompts[answer.event["prompt_id"]].append(answer)
    assert len(prompts) == 4
    checked = 0
    for group in prompts.values():
        rewards = np.array([answer.event["reward"] for answer in group])
        if len(set(rewards)) == 1:
            continue
        wanted = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        assert [answer.advantage for answer in group] == pytest.approx(
            wanted.tolist(), rel=1e-4, abs=1e-6
        )
        checked += 1
    assert checked == 4


@pytest.mark.parametrize(("tag", "knobs"), GROUPED)
@pytest.mark.parametrize(
    "group",
    [[0.7], [0.3, 0.3, 0.3], [math.nan] * 3, [math.nan, 0.8, math.nan], [0.1 + 0.2, 0.3]],
    ids=["one answer", "all equal", "none scorable", "one scorable", "equal but for rounding"],
)
def test_bug_26_a_group_that_compares_nothing_has_advantage_0(tag, knobs, group):
    given = outcomes([*group, 1.0, 0.0, 0.2], [5] * len(group) + [2, 2, 2])
    found = method_of(tag, knobs).advantages(given)
    assert torch.isfinite(found).all()
    assert float(found[: len(group)].abs().max()) < 1e-6
    # And it leaves the group beside it alone, unless the batch's spread is the scale.
    alone = method_of(tag, knobs).advantages(permuted(given, torch.tensor([-3, -2, -1])))
    assert bool((alone != 0).any())
    assert torch.equal(found[-3:] > 0, alone > 0)


@pytest.mark.parametrize(("tag", "knobs"), GROUPED)
def test_bug_28_an_answer_without_a_score_is_not_an_answer_with_score_0(tag, knobs):
    method = method_of(tag, knobs)
    kept, differs = torch.tensor([0, 2, 3]), False
    # A 0 among negative rewards would be the best, among positive ones the worst.
    for rewards in ([-0.9, math.nan, -0.6, -0.3], [0.9, math.nan, 0.6, 0.3]):
        given = outcomes(rewards, [0, 0, 0, 0])
        found = method.advantages(given)
        without = method.advantages(permuted(given, kept))
        assert float(found[1].abs().max()) == 0
        assert torch.allclose(found[kept], without, atol=1e-6)
        as_zero = method.advantages(outcomes([rewards[0], 0.0, *rewards[2:]], [0, 0, 0, 0]))
        differs = differs or not torch.allclose(as_zero[kept], without, atol=1e-3)
    assert differs


def test_bug_28_the_engine_keeps_none_apart_from_0(session, monkeypatch, graded):
    """From a reward that cannot say to the published samples, the means, and the advantages."""
    exact = family("rewards")["exact-match"]
    score, silent = exact.score, ("0", "1", "2", "3")

    def unsure(self, answer):
        return None if answer.text.startswith(silent) else score(self, answer)

    monkeypatch.setattr(exact, "score", unsure)
    policy = make_policy()
    options = ["objective.type=grpo", 'rewards=[{type = "exact-match"}]', "rollout.group_size=8"]
    learner, state = make_learner(session, policy, *options)
    values = learner.gather(state, Means())
    answers = sampled_answers(session, policy)
    known = [a for a in answers if not a.event["completion"].startswith(silent)]
    assert 8 < len(known) < len(answers)
    for answer in answers:
        if answer not in known:
            assert answer.event["rewards"]["exact-match"] is None
            assert answer.advantage == 0
    scores = [answer.event["rewards"]["exact-match"] for answer in known]
    assert values["reward"] == pytest.approx(sum(scores) / len(scores))
    assert values["rewards/exact-match/mean"] == pytest.approx(sum(scores) / len(scores))
    assert values["rewards/exact-match/none_frac"] == 1 - len(known) / len(answers)
    for group in range(4):
        rewards = np.array([a.event["reward"] for a in known if a.group == group])
        wanted = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
        found = [a.advantage for a in known if a.group == group]
        assert len(found) > 1 and found == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-6)
