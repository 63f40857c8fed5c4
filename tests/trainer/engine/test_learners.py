"""From batches to gradients: micro-batches, silence, the end token, padding, references."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from tests.trainer.engine.support import make_policy, tiny_spec
from tests.trainer.engine.templates import make_chat_policy
from trainer.engine.dataset import Cursor, parts_encode, parts_load
from trainer.engine.demonstrations import DemonstrationLearner
from trainer.engine.encode import answer_text
from trainer.engine.means import Means
from trainer.engine.online import OnlineLearner
from trainer.engine.pairs import PairLearner
from trainer.engine.reference import Reference
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys
from trainer.engine.state import State
from trainer.engine.update import optimizer_step
from trainer.journal import read_events
from trainer.methods import Outcomes

LEARNERS = {
    "rollouts": OnlineLearner,
    "pairs": PairLearner,
    "demonstrations": DemonstrationLearner,
}


def make_learner(session, policy, *overrides):
    spec = tiny_spec(*overrides)
    learns_from = spec.objective.learns_from
    parts = parts_load(spec.data.train, seed=0, learns_from=learns_from, datasets={})
    parts_encode(parts, policy, spec.data, learns_from)
    cursor = Cursor(parts, spec.curriculum, spec.seed)
    reference = Reference(partial(make_policy, seed=0))
    learner = LEARNERS[learns_from](session, spec, policy, reference, cursor)
    return learner, State(visited=cursor.start())


def gradient(learner, state, means=None):
    learner.policy.model.zero_grad()
    means = means or Means()
    total = 0.0
    for loss in learner.losses(state, means):
        if loss.value.requires_grad:
            loss.value.backward()
        total += float(loss.value.detach())
        means.add_loss(loss)
    flat = [
        (p.grad if p.grad is not None else torch.zeros_like(p)).flatten().clone()
        for p in learner.policy.model.parameters()
    ]
    return total, torch.cat(flat), means.values()


METHODS = [
    ["objective.type=grpo", "objective.aggregation=token-mean"],
    ["objective.type=grpo", "objective.aggregation=sequence-mean"],
    ["objective.type=grpo", "objective.aggregation=constant"],
    ["objective.type=grpo", "objective.beta=0.1", "rollout.temperature=0.7", "rollout.top_p=0.8"],
    ["objective.type=dpo", "objective.sft_weight=0.7"],
    ["objective.type=sft"],
]


@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_micro_batches_change_neither_gradient_nor_metrics(session, method):
    policy = make_policy()
    found = []
    for budget in (1, 40, 1 << 20):
        learner, state = make_learner(
            session, policy, *method, f"batch.tokens_per_microbatch={budget}"
        )
        means = Means()
        learner.gather(state, means)
        found.append(gradient(learner, state, means))
    assert float(found[0][1].norm()) > 0
    for _, _, values in found:
        values.pop("batch/pad_frac", None)
    for loss, grad, values in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-6)
        assert float((grad - found[0][1]).norm() / found[0][1].norm()) < 1e-5
        assert values == pytest.approx(found[0][2], abs=1e-4)


def test_terms_that_are_weighed_otherwise_are_given_their_own_weights(session, monkeypatch):
    """The entropy bonus is a mean over tokens beside a loss that is one over answers."""
    options = ["objective.aggregation=sequence-mean", "objective.entropy_coef=0.1"]
    learner, state = make_learner(session, make_policy(), "objective.type=grpo", *options)
    learner.gather(state, Means())
    kind, seen = type(learner.spec.objective), []
    loss = kind.loss
    monkeypatch.setattr(kind, "loss", lambda self, batch: seen.append(batch) or loss(self, batch))
    gradient(learner, state)
    for batch in seen:
        wanted_BT = batch.mask_BT.float() / batch.tokens
        assert torch.allclose(batch.term_weight_BT["entropy"], wanted_BT)
        assert not torch.allclose(batch.weight_BT, wanted_BT, rtol=1e-2)


def test_the_first_update_clips_nothing_and_agrees_with_the_sampler(session):
    policy = make_policy()
    learner, state = make_learner(
        session, policy, "objective.type=grpo", "rollout.temperature=0.7", "rollout.top_p=0.8"
    )
    learner.gather(state, Means())
    _, _, values = gradient(learner, state)
    assert values["clip_ratio/low_mean"] == values["clip_ratio/high_mean"] == 0.0
    assert values["rollout/logp_diff_max"] < 1e-5
    assert values["ess"] == pytest.approx(1, abs=1e-6)


def test_skipping_silent_answers_gives_the_same_gradient(session, monkeypatch):
    policy = make_policy()
    learner, state = make_learner(session, policy, "objective.type=grpo")
    learner.gather(state, Means())
    # One silent group, and a silent answer in another.
    learner.buffer.advantage_NA[:4] = 0
    learner.buffer.advantage_NA[5] = 0
    loss, skipped, values = gradient(learner, state)
    assert values["groups/skipped_tokens_frac"] > 0
    kind = type(learner.spec.objective)
    monkeypatch.setattr(kind, "silent_without_advantage", property(lambda self: False))
    whole_loss, whole, whole_values = gradient(learner, state)
    assert whole_values["groups/skipped_tokens_frac"] == 0
    assert loss == pytest.approx(whole_loss, abs=1e-6)
    assert torch.allclose(skipped, whole, atol=1e-6)
    for key in ("clip_ratio/low_mean", "clip_ratio/high_mean"):
        assert values[key] == whole_values[key]


def test_a_step_where_every_answer_is_silent_is_a_step_of_gradient_zero(session):
    policy = make_policy()
    learner, state = make_learner(session, policy, "objective.type=grpo", "optimizer.lr=0.1")
    learner.gather(state, Means())
    learner.buffer.advantage_NA[:] = 0
    before = [p.clone() for p in policy.model.parameters()]
    optimizer = learner.spec.optimizer.build(policy.parameters())
    values = optimizer_step(
        policy, optimizer, learner.losses(state, Means()), Means(),
        lr=0.1, max_grad_norm=1.0, tick=lambda: None,
    )  # fmt: skip
    assert values["loss"] == 0 and values["grad_norm"] == 0
    for old, new in zip(before, policy.model.parameters(), strict=True):
        assert torch.equal(old, new)
    assert all(state["step"] == 1 for state in optimizer.state.values())


def test_the_first_loss_of_dpo_is_ln_2_and_its_margin_zero(session):
    learner, state = make_learner(session, make_policy(), "objective.type=dpo")
    learner.gather(state, Means())
    loss, _, values = gradient(learner, state)
    assert loss == pytest.approx(math.log(2), abs=1e-7)
    assert values["rewards/margins"] == 0
    assert values["rewards/accuracies"] == 0.5


def test_reference_values_are_computed_once_per_pair_and_survive_saving(session):
    policy = make_policy()
    learner, state = make_learner(session, policy, "objective.type=dpo")
    learner.gather(state, Means())
    first = gradient(learner, state)
    saved = learner.tensors(state)
    other, _ = make_learner(session, policy, "objective.type=dpo")
    other.restore(saved)
    other.reference.load = None
    other.gather(state, Means())
    second = gradient(other, state)
    assert first[0] == second[0] and torch.equal(first[1], second[1])


def test_the_end_token_is_learned_even_when_it_is_the_padding_token(session):
    policy = make_policy()
    policy.pad_id = policy.eos_ids[0]
    learner, state = make_learner(session, policy, "objective.type=sft")
    learner.gather(state, Means())
    assert all(ids[-1] == policy.eos_ids[0] for e in learner.examples for ids in e.answers)
    before = gradient(learner, state)
    policy.pad_id = 0
    after = gradient(learner, state)
    assert before[0] == after[0] and torch.equal(before[1], after[1])


def test_sampled_answers_are_trained_up_to_and_with_their_end(session):
    learner, state = make_learner(session, make_policy(), "objective.type=grpo")
    learner.gather(state, Means())
    buffer = learner.buffer
    lengths = [len(answer) for answer in buffer.sequences.answers]
    assert buffer.mask_NA.sum(-1).tolist() == lengths
    ended = [a for a in buffer.sequences.answers if a[-1] in learner.policy.eos_ids]
    assert ended


@pytest.mark.parametrize("kind", ["grpo", "sft", "dpo"])
def test_what_stands_in_padding_changes_no_bit(session, kind):
    policy = make_policy()
    learner, state = make_learner(session, policy, f"objective.type={kind}")
    learner.gather(state, Means())
    before = gradient(learner, state)
    policy.pad_id = 5
    after = gradient(learner, state)
    assert before[0] == after[0] and torch.equal(before[1], after[1])


def test_nan_in_padding_does_not_leak(session):
    learner, state = make_learner(session, make_policy(), "objective.type=grpo")
    learner.gather(state, Means())
    buffer = learner.buffer
    assert not bool(buffer.mask_NA.all())
    before = gradient(learner, state)
    buffer.old_logp_NA[~buffer.mask_NA] = torch.nan
    after = gradient(learner, state)
    assert math.isfinite(after[0]) and torch.equal(before[1], after[1])


@pytest.mark.parametrize(
    ("totals", "silent"),
    [
        ([1, 1, 1, 1], True),
        ([math.nan] * 4, True),
        ([math.nan, math.nan, math.nan, 1], True),
        ([math.nan, 0, 1, 1], False),
    ],
    ids=["all equal", "none scorable", "one scorable", "three scorable"],
)
def test_odd_groups_of_rewards(session, totals, silent):
    learner, state = make_learner(
        session, make_policy(), "objective.type=grpo", "batch.prompts_per_step=1"
    )
    learner.gather(state, Means())
    rewards_N = torch.tensor(totals, dtype=torch.float32)
    outcomes = Outcomes(rewards_N, learner.buffer.group_N, learner.buffer.mask_NA)
    advantage = learner.spec.advantage.advantages(outcomes)
    learner.buffer.advantage_NA[:] = advantage[:, None]
    loss, grad, _ = gradient(learner, state)
    assert torch.isfinite(advantage).all() and math.isfinite(loss)
    assert bool((advantage == 0).all()) == silent
    assert (float(grad.norm()) == 0) == silent


def test_every_row_is_visited_once_per_epoch_and_parts_by_weight(session):
    policy = make_policy()
    spec = tiny_spec()
    source = spec.data.train[0]
    sources = [source, source.model_copy(update={"weight": 3.0, "limit": 30})]
    parts = parts_load(sources, seed=0, learns_from="rollouts", datasets={})
    parts_encode(parts, policy, spec.data, "rollouts")
    assert [part.name for part in parts] == ["noisy-sort", "noisy-sort-2"]
    cursor = Cursor(parts, spec.curriculum, 0)
    visited, seen = cursor.start(), []
    for _ in range(10):
        taken, visited = cursor.take(visited, 4)
        seen += [example.id for example in taken]
    assert visited == [10, 30] and len(set(seen)) == 40
    assert cursor.epoch(visited) == 1
    again, _ = Cursor(parts, spec.curriculum, 0).take([7, 21], 12)
    assert [example.id for example in again] == seen[28:]


@pytest.mark.parametrize("method", METHODS, ids=" ".join)
def test_bug_11_packing_changes_neither_gradient_nor_metrics(session, method):
    policy = make_policy()
    found = {}
    for packing in ("none", "rows"):
        learner, state = make_learner(session, policy, *method, f"batch.packing={packing}")
        means = Means()
        learner.gather(state, means)
        found[packing] = gradient(learner, state, means)
    plain, packed = found["none"], found["rows"]
    assert packed[0] == pytest.approx(plain[0], abs=1e-6)
    assert float((packed[1] - plain[1]).norm() / plain[1].norm()) < 1e-5
    pads = [values.pop("batch/pad_frac", 0.0) for values in (packed[2], plain[2])]
    assert 0 <= pads[0] <= pads[1] < 1
    assert packed[2] == pytest.approx(plain[2], abs=1e-4)


def test_bug_24_what_was_sampled_is_never_spelled_again(session):
    policy = make_chat_policy("llama")
    learner, state = make_learner(
        session, policy, "objective.type=grpo", "rollout.max_new_tokens=8", "rollout.top_p=0.9"
    )
    learner.gather(state, Means())
    prompts = learner.buffer.sequences.prompts
    # Every draw is a function of its key: the sampler itself says again what it drew.
    keys = sample_keys(learner.spec.seed, "train", 1, list(range(len(prompts))), 4)
    how = Sampling(8, top_p=0.9)
    drawn = sample(policy, prompts, keys, how, budget=1 << 20, tick=lambda: None)
    tokens = [item.tokens for item in drawn]
    encode = policy.tokenizer
    again = [
        encode(answer_text(policy, ids), add_special_tokens=False)["input_ids"] for ids in tokens
    ]
    changed = [one for one, other in zip(tokens, again, strict=True) if one != other]
    assert len(changed) > len(tokens) / 2
    buffer = learner.buffer
    assert buffer.sequences.answers == tokens
    buffer.advantage_NA = buffer.mask_NA.float()
    _, _, values = gradient(learner, state)
    assert values["rollout/logp_diff_max"] < 1e-4
    journal = session.attempt.journal("samples")
    written = [event["token_ids"] for event in read_events(journal)]
    assert written and written == tokens[: len(written)]
    # A checkpoint in the middle of a batch brings back the same tokens.
    state.updates_done = 1
    other, _ = make_learner(session, policy, "objective.type=grpo")
    other.restore(learner.tensors(state))
    assert other.buffer.sequences.answers == tokens


def test_bug_33_sampling_and_training_leave_the_models_flags_alone(session):
    policy = make_policy()

    def flags():
        model = policy.model
        return (
            model.training,
            model.config.use_cache,
            [parameter.requires_grad for parameter in model.parameters()],
            torch.is_grad_enabled(),
        )

    before = flags()
    learner, state = make_learner(session, policy, "objective.type=grpo", "optimizer.lr=0.1")
    learner.gather(state, Means())
    first = learner.buffer.sequences.answers
    assert flags() == before
    optimizer = learner.spec.optimizer.build(policy.parameters())
    optimizer_step(
        policy, optimizer, learner.losses(state, Means()), Means(),
        lr=0.0, max_grad_norm=1.0, tick=lambda: None,
    )  # fmt: skip
    assert flags() == before
    learner.gather(state, Means())
    assert learner.buffer.sequences.answers == first

    def interrupted():
        raise KeyboardInterrupt

    policy.model.train()
    with pytest.raises(KeyboardInterrupt):
        sample(
            policy, [[3]], sample_keys(0, "x", 1, [0], 1), Sampling(2), budget=9, tick=interrupted
        )
    assert policy.model.training
    policy.model.eval()
