"""Rollouts and the updates on them: minibatches, KL in the reward, greedy baselines, critics, silence."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.engine.test_learners import gradient, make_learner
from trainer.advantages.group_mean_std import GroupMeanStd
from trainer.engine.forward import token_scores
from trainer.engine.means import Means
from trainer.engine.packing import Sequences, micro_batches
from trainer.engine.reference import Reference
from trainer.engine.rollout_metrics import _critic_metrics
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys

GRPO = "objective.type=grpo"
PPO = ["objective.type=ppo", "batch.prompts_per_step=4"]


def gathered(session, policy, *overrides):
    learner, state = make_learner(session, policy, *overrides)
    values = learner.gather(state, Means())
    return learner, state, values


def nudge(policy, size=0.02):
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))


def watch(learner, monkeypatch):
    """Every batch that the loss is given."""
    seen = []
    kind = type(learner.spec.objective)
    loss = kind.loss
    monkeypatch.setattr(kind, "loss", lambda self, batch: seen.append(batch) or loss(self, batch))
    return seen


@pytest.mark.parametrize("aggregation", ["token-mean", "sequence-mean", "constant", "prompt-mean"])
@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_each_step_of_a_rollout_batch_weighs_its_own_tokens(
    session, monkeypatch, aggregation, budget
):
    learner, state, _ = gathered(
        session, make_policy(), GRPO, f"objective.aggregation={aggregation}",
        "batch.minibatches=3", f"batch.tokens_per_microbatch={budget}",
    )  # fmt: skip
    seen = watch(learner, monkeypatch)
    sizes = []
    for turn in range(3):
        state.updates_done, state.step = turn, turn
        seen.clear()
        gradient(learner, state)
        total = sum(float(batch.weight_BT.sum()) for batch in seen)
        tokens = sum(float(batch.mask_BT.sum()) for batch in seen)
        answers = sum(len(batch.mask_BT) for batch in seen)
        wanted = tokens / (answers * 5) if aggregation == "constant" else 1
        assert total == pytest.approx(wanted, abs=1e-6)
        assert all(batch.tokens == tokens for batch in seen)
        sizes.append(answers)
    # Four prompts with four answers each: whole groups.
    assert sorted(sizes) == [4, 4, 8]


def test_the_steps_of_a_pass_together_see_what_one_step_sees(session):
    """With a normaliser that does not depend on the batch, their gradients sum to the whole one."""
    policy = make_policy()
    constant = [GRPO, "objective.aggregation=constant"]
    learner, state, _ = gathered(session, policy, *constant)
    _, whole, _ = gradient(learner, state)
    parts, state, _ = gathered(session, policy, *constant, "batch.minibatches=4")
    total = torch.zeros_like(whole)
    for turn in range(4):
        state.updates_done, state.step = turn, turn
        total += gradient(parts, state)[1] / 4
    assert float((total - whole).norm() / whole.norm()) < 1e-5


def test_old_log_probabilities_stay_and_ratios_keep_to_their_rows(session, monkeypatch):
    policy = make_policy()
    learner, state, _ = gathered(
        session, policy, GRPO, "batch.minibatches=2", "batch.updates_per_rollout=2",
        "rollout.temperature=0.7", "rollout.top_p=0.8", "batch.tokens_per_microbatch=60",
    )  # fmt: skip
    assert learner.updates == 4
    buffer = learner.buffer
    before = buffer.old_logp_NA.clone()
    index = {tuple(row.tolist()): i for i, row in enumerate(before)}
    assert len(index) == len(before)
    seen = watch(learner, monkeypatch)
    orders = []
    for turn in range(4):
        state.step, state.updates_done = turn, turn
        seen.clear()
        gradient(learner, state)
        assert torch.equal(buffer.old_logp_NA, before)
        rows = 0
        with torch.no_grad():
            for batch in seen:
                for old, new, mask in zip(
                    batch.old_logp_BT, batch.logp_BT, batch.mask_BT, strict=True
                ):
                    answer = index[tuple(old.tolist())]
                    direct = token_scores(policy, buffer.sequences, [answer], temperature=0.7)
                    if not torch.equal(new, old):  # a silent answer has no forward pass
                        assert torch.allclose(new[mask], direct.logp_M, atol=1e-5)
                    rows += 1
        assert rows == len(learner.mine)
        orders.append(sorted(learner.mine))
        nudge(policy)
    assert sorted(orders[0] + orders[1]) == sorted(orders[2] + orders[3]) == list(range(16))


def test_a_batch_in_hand_comes_back_from_a_checkpoint_with_every_column(session):
    policy = make_policy()
    knobs = [
        *PPO, "objective.beta=0.05", "objective.kl_in=reward", "objective.kl_estimator=k1",
        "rollout.top_p=0.9", "batch.minibatches=2",
    ]  # fmt: skip
    learner, state, _ = gathered(session, policy, *knobs)
    gradient(learner, state)
    learner.commit(state)
    state.step += 1
    saved = {name: value.clone() for name, value in learner.tensors(state).items()}
    expected = gradient(learner, state)
    other, _ = make_learner(session, policy, *knobs)
    nudge(other.critic.trunk)
    other.restore(saved)
    other.reference.load = None
    again = gradient(other, state)
    assert again[0] == expected[0] and torch.equal(again[1], expected[1])
    assert again[2] == expected[2]
    columns = {
        "old_logp", "old_entropy", "log_kept", "truncated", "advantage", "ref_logp", "value",
        "return", "kept", "visited",
    }  # fmt: skip
    assert columns <= set(saved)


# --- KL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knobs", [[], ["rollout.top_p=0.8", "rollout.temperature=0.7"]])
def test_kl_to_itself_is_exactly_0_at_the_first_step(session, knobs):
    learner, state, _ = gathered(session, make_policy(), GRPO, "objective.beta=0.1", *knobs)
    _, _, values = gradient(learner, state)
    assert values["kl"] == 0.0


def test_kl_is_that_of_the_distributions_that_were_drawn_from(session):
    """Mean of k1 over every kept token, weighed by its probability, is KL of the two on the kept set."""
    policy = make_policy(scale=3.0)
    learner, _ = make_learner(session, policy, GRPO, "objective.beta=0.1")
    nudge(policy, 0.1)
    prompt = policy.tokenizer(["sort 314 = "])["input_ids"]
    how = Sampling(1, 0.7, top_p=0.8)
    keys = sample_keys(0, "train", 1, [0], 1)
    (one,) = sample(policy, prompt, keys, how, budget=1 << 30, tick=lambda: None)

    vocabulary = policy.vocabulary

    tokens = np.unpackbits(one.kept[0], count=vocabulary).nonzero()[0].tolist()
    sequences = Sequences(
        prompt, [[t] for t in tokens], [0] * len(tokens), [one.kept] * len(tokens)
    )
    (rows,) = micro_batches(sequences, range(len(tokens)), budget=1 << 30, shared=True)
    with torch.no_grad():
        now_M = token_scores(policy, sequences, range(len(tokens)), temperature=0.7).logp_M
    ref_M = learner.reference.token_logps(sequences, range(len(tokens)), rows, 0.7)[:, 0]
    assert torch.isfinite(ref_M).all()
    mean_k1 = float((now_M.exp() * (now_M - ref_M)).sum())
    mean_k3 = float((now_M.exp() * ((ref_M - now_M).exp() - 1 + now_M - ref_M)).sum())

    def on_kept(model):
        with torch.no_grad():
            logits = model.model(torch.tensor(prompt)).logits[0, -1] / 0.7
        return logits[tokens].double().log_softmax(-1)

    p, q = on_kept(policy), on_kept(learner.reference.get())
    exact = float((p.exp() * (p - q)).sum())
    assert exact > 0.01
    assert mean_k1 == pytest.approx(exact, abs=1e-6)
    assert mean_k3 == pytest.approx(exact, abs=1e-6)


def test_kl_in_the_reward_is_charged_to_each_token_and_reported(session):
    policy = make_policy()
    nudged = make_policy()
    nudge(nudged, 0.05)
    knobs = [
        GRPO, "objective.beta=0.3", "objective.kl_in=reward", "objective.kl_estimator=k1",
        "rollout.temperature=0.7", "rollout.top_p=0.8",
    ]  # fmt: skip
    learner, state = make_learner(session, policy, *knobs)
    learner.reference = Reference(lambda: nudged)
    seen = []
    advantages = GroupMeanStd.advantages

    def spy(self, outcomes):
        seen.append(outcomes)
        return advantages(self, outcomes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupMeanStd, "advantages", spy)
        values = learner.gather(state, Means())
    buffer, (outcomes,) = learner.buffer, seen
    with torch.no_grad():
        for answer in range(16):
            ref_T = token_scores(nudged, buffer.sequences, [answer], temperature=0.7).logp_M
            old_T = buffer.old_logp_NA[answer, : len(ref_T)]
            paid_T = outcomes.penalty_NT[answer, : len(ref_T)]
            assert torch.allclose(paid_T, 0.3 * (old_T - ref_T), atol=1e-5)
    assert float(outcomes.penalty_NT[~outcomes.mask_NT].abs().sum()) == 0
    mean = float(outcomes.penalty_NT.sum() / outcomes.mask_NT.sum()) / 0.3
    assert values["kl"] == pytest.approx(mean, abs=1e-6) and abs(mean) > 1e-3
    # The answers' advantages know of it: without it they are others.
    plain, plain_state = make_learner(session, policy, GRPO, *knobs[4:])
    plain.gather(plain_state, Means())
    assert not torch.allclose(plain.buffer.advantage_NA, buffer.advantage_NA, atol=1e-3)


@pytest.mark.parametrize(
    ("moving", "dials", "fixed"),
    [
        (
            ["objective.beta=0.9", "objective.beta_schedule=linear"],
            {"beta": 0.05},
            ["objective.beta=0.05"],
        ),
        (
            ["objective.entropy_coef=0.5", "objective.entropy_target=0.1"],
            {"entropy_coef": 0.5, "entropy_coef_applied": 0.02},
            ["objective.entropy_coef=0.02"],
        ),
    ],
    ids=["beta", "entropy"],
)
def test_the_coefficient_of_the_step_is_that_of_the_loss(session, moving, dials, fixed):
    found = []
    for knobs in (moving, fixed):
        policy = make_policy()
        learner, state, _ = gathered(session, policy, GRPO, *knobs)
        nudge(policy)
        if knobs is moving:
            begun = gradient(learner, state)
            learner.dials = dials
        found.append(gradient(learner, state))
    (loss, grad, _), (wanted_loss, wanted, _) = found
    assert loss == pytest.approx(wanted_loss, abs=1e-7)
    assert float((grad - wanted).norm() / wanted.norm()) < 1e-6
    assert float((begun[1] - wanted).norm() / wanted.norm()) > 1e-3


def test_the_reference_is_asked_once_per_batch(session, monkeypatch):
    learner, state = make_learner(
        session, make_policy(), GRPO, "objective.beta=0.1", "batch.updates_per_rollout=3"
    )
    calls = []
    ask = Reference.token_logps
    monkeypatch.setattr(
        Reference, "token_logps", lambda self, *args: calls.append(1) or ask(self, *args)
    )
    learner.gather(state, Means())
    asked = len(calls)
    for turn in range(3):
        state.updates_done = state.step = turn
        gradient(learner, state)
    assert asked > 0 and len(calls) == asked


# --- silence -------------------------------------------------------------------------------------


def test_an_answer_is_silent_when_none_of_its_tokens_has_an_advantage(session, monkeypatch):
    learner, state, _ = gathered(session, make_policy(), GRPO)
    advantage_NA = learner.buffer.advantage_NA
    advantage_NA[:] = 0
    longest = int(learner.buffer.mask_NA.sum(-1).argmax())
    # One token counts; the answer's mean is 0 all the same.
    advantage_NA[longest, 0], advantage_NA[longest, 1] = 1.0, -1.0
    assert float(learner.buffer.advantage_N[longest]) == 0
    _, skipped, values = gradient(learner, state)
    tokens = learner.buffer.mask_NA.sum()
    own = learner.buffer.mask_NA[longest].sum()
    assert values["groups/skipped_tokens_frac"] == pytest.approx(float(1 - own / tokens))
    monkeypatch.setattr(
        type(learner.spec.objective), "silent_without_advantage", property(lambda self: False)
    )
    _, whole, _ = gradient(learner, state)
    assert float(whole.norm()) > 0
    assert torch.allclose(skipped, whole, atol=1e-6)


def test_a_truncated_answer_is_known_as_such(session):
    learner, _, values = gathered(session, make_policy(), GRPO)
    buffer, ends = learner.buffer, learner.policy.eos_ids
    cut = [answer[-1] not in ends for answer in buffer.sequences.answers]
    assert buffer.truncated_N.tolist() == cut
    assert 0 < sum(cut) < 16
    assert values["completions/clipped_ratio"] == sum(cut) / 16


# --- the entropy's gradient ----------------------------------------------------------------------


@pytest.mark.parametrize("coefficient", [0.0, 0.1])
def test_entropy_has_a_gradient_where_the_objective_uses_it(session, monkeypatch, coefficient):
    learner, state, _ = gathered(
        session, make_policy(), GRPO, f"objective.entropy_coef={coefficient}"
    )
    seen = watch(learner, monkeypatch)
    gradient(learner, state)
    graded = {batch.entropy_BT.requires_grad for batch in seen if batch.logp_BT.requires_grad}
    assert graded == {coefficient > 0}
    for batch in seen:
        assert torch.allclose(
            batch.entropy_BT[batch.mask_BT], batch.old_entropy_BT[batch.mask_BT], atol=1e-5
        )


# --- the critic ----------------------------------------------------------------------------------


def test_first_values_are_0_and_the_critic_learns_towards_the_returns(session):
    learner, state, values = gathered(session, make_policy(), *PPO, "objective.value_clip=0")
    buffer = learner.buffer
    assert float(buffer.value_NA.abs().max()) == 0
    assert values["critic/values/mean"] == 0
    assert math.isfinite(values["critic/returns/mean"])
    mask_NA = buffer.mask_NA

    def error():
        learner._collector.add_values(buffer, learner.critic)
        return float(((buffer.value_NA - buffer.return_NA)[mask_NA] ** 2).mean())

    first = error()
    for _ in range(30):
        gradient(learner, state)
        learner.critic.step(1e-2)
    assert error() < 0.3 * first


@pytest.mark.parametrize(("own", "rate"), [(0.0, 0.01), (0.2, 0.2)])
def test_the_critic_moves_at_its_own_rate_with_the_schedule(session, own, rate):
    learner, state, _ = gathered(
        session, make_policy(), *PPO, f"objective.critic_lr={own}", "schedule.warmup_steps=2"
    )
    before = learner.critic.head.weight.clone()
    for factor in (0.5, 1.0):
        gradient(learner, state)
        learner.commit(state)
        state.step += 1
        found = [group["lr"] for group in learner.critic.optimizer.param_groups]
        assert found == pytest.approx([rate * factor] * len(found))
        learner.gather(state, Means())
    assert not torch.equal(before, learner.critic.head.weight)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_micro_batches_change_neither_gradient_of_policy_and_critic(session, minibatches):
    policy = make_policy()
    found = []
    for budget in (1 << 20, 40, 1):
        learner, state, _ = gathered(
            session, policy, *PPO, f"batch.tokens_per_microbatch={budget}",
            f"batch.minibatches={minibatches}", "optimizer.max_grad_norm=0",
        )  # fmt: skip
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            weight = learner.critic.head.weight
            weight.copy_(0.1 * torch.randn(weight.shape, generator=draw))
        learner._collector.add_values(learner.buffer, learner.critic)
        gradient(learner, state)  # an update that was broken off leaves nothing behind
        _, grad, _ = gradient(learner, state)
        critic = torch.cat([p.grad.flatten() for _, p in learner.critic._named()])
        found.append((grad, critic))
    assert float(found[0][1].norm()) > 1e-3
    for grad, critic in found[1:]:
        assert float((grad - found[0][0]).norm() / found[0][0].norm()) < 1e-5
        assert float((critic - found[0][1]).norm() / found[0][1].norm()) < 1e-5


def test_explained_variance_is_that_of_the_answer_tokens(session):
    learner, _, _ = gathered(session, make_policy(), *PPO)
    buffer = learner.buffer

    buffer.value_NA = 0.5 * buffer.return_NA
    buffer.value_NA[~buffer.mask_NA] = torch.nan
    assert _critic_metrics(buffer)["critic/vf_explained_var"] == pytest.approx(0.75)
    buffer.return_NA[:] = 2.0
    assert "critic/vf_explained_var" not in _critic_metrics(buffer)
