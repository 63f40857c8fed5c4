"""Sampler against trainer: weights by hand, an unbiased gradient by enumeration, and what is told of the gap."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.engine.test_learners import gradient, make_learner
from tests.trainer.engine.test_online import nudge, watch
from trainer.correction import Correction
from trainer.engine.batches import Rollouts
from trainer.engine.means import Means
from trainer.engine.mismatch import Mismatch, MismatchAlarm, correction_weights
from trainer.registry import family

GRPO = "objective.type=grpo"
LENGTHS = (3, 1, 2)
LOG_RHO = ((0.5, -1.0, 0.9), (2.0, math.nan, math.nan), (-0.2, 0.1, math.nan))


def case():
    mask_BT = torch.arange(3)[None, :] < torch.tensor(LENGTHS)[:, None]
    return torch.tensor(LOG_RHO), mask_BT


def by_hand(plan):
    """Row by row, in plain Python."""
    found = []
    for length, row in zip(LENGTHS, LOG_RHO, strict=True):
        logs = list(row[:length])
        of = {
            "none": [1.0] * length,
            "token": [math.exp(x) for x in logs],
            "sequence": [math.exp(sum(logs))] * length,
            "geometric": [math.exp(sum(logs) / length)] * length,
        }
        weights = [min(rho, plan.weight_cap) for rho in of[plan.weight]]
        found.append(
            [
                weight if plan.reject_below <= rho <= plan.reject_above else 0.0
                for weight, rho in zip(weights, of[plan.reject], strict=True)
            ]
        )
    return found


@pytest.mark.parametrize("weight", ["none", "token", "sequence", "geometric"])
@pytest.mark.parametrize("reject", ["none", "token", "sequence", "geometric"])
def test_the_weights_of_every_form(weight, reject):
    plan = Correction(
        old_policy="trainer", weight=weight, weight_cap=2, reject=reject,
        reject_below=0.5, reject_above=3,
    )  # fmt: skip
    log_rho_BT, mask_BT = case()
    weight_BT = correction_weights(log_rho_BT, mask_BT, plan)
    assert bool(weight_BT.isfinite().all())
    for row, wanted in enumerate(by_hand(plan)):
        assert weight_BT[row, : len(wanted)].tolist() == pytest.approx(wanted, rel=1e-6)


def test_a_ratio_that_no_number_can_hold_is_a_large_one():
    mask_BT = torch.ones(1, 4, dtype=torch.bool)
    plan = Correction(old_policy="trainer", weight="sequence", weight_cap=5)
    assert correction_weights(torch.full((1, 4), 300.0), mask_BT, plan).tolist() == [[5.0] * 4]
    assert float(correction_weights(torch.full((1, 4), -300.0), mask_BT, plan).max()) < 1e-8


@pytest.mark.parametrize("objective", ["grpo", "reinforce", "cispo", "gspo"])
def test_the_weighted_gradient_is_that_of_the_policy_whoever_sampled(objective):
    """E over q of rho A grad log pi = grad E over pi of A: enumerated over every answer of one token."""
    draw = torch.Generator().manual_seed(0)
    logits_V = torch.randn(6, generator=draw, dtype=torch.double, requires_grad=True)
    sampler_V = torch.randn(6, generator=draw, dtype=torch.double).log_softmax(-1)
    advantage_V = torch.randn(6, generator=draw, dtype=torch.double)
    logp_V = logits_V.log_softmax(-1)
    wanted_V = torch.autograd.grad(-(logp_V.exp() * advantage_V).sum(), logits_V)[0]

    def found_V(correction_BT):
        logp_V = logits_V.log_softmax(-1)
        batch = Rollouts(
            mask_BT=torch.ones(6, 1, dtype=torch.bool),
            old_logp_BT=logp_V.detach()[:, None],
            advantage_BT=advantage_V[:, None],
            group_B=torch.zeros(6, dtype=torch.long),
            max_new_tokens=1,
            tokens=6,
            truncated_B=torch.zeros(6, dtype=torch.bool),
            # Each answer comes as often as the sampler draws it.
            weight_BT=sampler_V.exp()[:, None],
            logp_BT=logp_V[:, None],
            entropy_BT=torch.zeros(6, 1),
            correction_BT=correction_BT,
        )
        loss = family("objectives")[objective](type=objective).loss(batch)
        return torch.autograd.grad(loss.value, logits_V)[0]

    plan = Correction(old_policy="trainer", weight="token", weight_cap=1000)
    log_rho_BT = (logp_V.detach() - sampler_V)[:, None]
    weight_BT = correction_weights(log_rho_BT, torch.ones(6, 1, dtype=torch.bool), plan)
    assert float((found_V(weight_BT) - wanted_V).abs().max()) < 1e-12
    assert float((found_V(None) - wanted_V).abs().max()) > 1e-2


@pytest.mark.parametrize("weight", ["token", "sequence", "geometric"])
def test_where_sampler_and_trainer_agree_it_is_plain_ppo(session, weight):
    """Decoupled PPO with pi_prox = pi_behav has the gradient of PPO, to the last bits of its forward passes."""
    found = {}
    for name, overrides in (
        ("plain", []),
        ("decoupled", ["correction.old_policy=trainer", f"correction.weight={weight}"]),
    ):
        policy = make_policy()
        learner, state = make_learner(session, policy, GRPO, *overrides)
        learner.gather(state, Means())
        nudge(policy)
        _, found[name], values = gradient(learner, state)
        assert values["clip_ratio/region_mean"] > 0
    apart = float((found["plain"] - found["decoupled"]).norm() / found["plain"].norm())
    assert apart < 1e-4


def apart(session, policy, *overrides):
    """A learner with a batch whose sampler was other weights than its policy."""
    learner, state = make_learner(session, policy, GRPO, *overrides)
    generator, size = policy.generator, 0.05

    class Older:
        name, holds_copy, tells_entropy = "older", False, True

        def rest(self):
            """It has nothing to give back."""

        def sample(self, *args, **more):
            before = {n: p.clone() for n, p in policy.model.named_parameters()}
            nudge(policy, size)
            try:
                return generator.sample(*args, **more)
            finally:
                with torch.no_grad():
                    for name, parameter in policy.model.named_parameters():
                        parameter.copy_(before[name])

    policy.generator = Older()
    means = Means()
    try:
        learner.gather(state, means)
    finally:
        policy.generator = generator
    return learner, state, means


def test_three_policies_clip_around_the_trainer_and_weigh_by_the_sampler(session, monkeypatch):
    learner, state, means = apart(
        session, make_policy(),
        "correction.old_policy=trainer", "correction.weight=token", "batch.minibatches=2",
    )  # fmt: skip
    buffer = learner.buffer
    mask_NA = buffer.mask_NA
    gap_M = (buffer.old_logp_NA - buffer.sampler_logp_NA)[mask_NA].double()
    assert float(gap_M.abs().max()) > 0.01
    values = means.values()
    assert values["gen_kl_error"] == pytest.approx(float((gap_M.exp() - gap_M - 1).mean()))
    assert values["token_mult_prob_error"] == pytest.approx(float(gap_M.abs().exp().mean()))
    assert values["rollout/logp_diff_max"] == pytest.approx(float(gap_M.abs().max()))
    rho_M = gap_M.exp()
    name = "sampling/importance_sampling_ratio"
    assert values[f"{name}/mean"] == pytest.approx(float(rho_M.mean()), rel=1e-6)
    assert values[f"{name}/max"] == pytest.approx(float(rho_M.max()), rel=1e-6)
    assert values[f"{name}/min"] == pytest.approx(float(rho_M.min()), rel=1e-6)
    wanted = float(rho_M.sum() ** 2 / (len(rho_M) * (rho_M**2).sum()))
    assert values["sampling/ess"] == pytest.approx(wanted, rel=1e-6)
    assert values["correction/capped_frac"] == pytest.approx(float((rho_M > 2).double().mean()))
    seen = watch(learner, monkeypatch)
    _, _, values = gradient(learner, state)
    audible = [batch for batch in seen if batch.logp_BT.requires_grad]
    assert audible
    for batch in audible:
        # The policy has not moved yet: ratios are 1 to the trainer, and the weights are the gap.
        moved_BT = batch.logp_BT.detach() - batch.old_logp_BT
        assert float(moved_BT[batch.mask_BT].abs().max()) < 1e-5
        gap_BT = torch.where(batch.mask_BT, batch.old_logp_BT - batch.sampler_logp_BT, 0.0)
        assert torch.allclose(batch.correction_BT, gap_BT.exp().clamp(max=2))
    assert "gen_kl_error" not in values


def test_two_policies_measure_the_gap_at_the_first_update_and_reject_by_the_present_ratio(
    session, monkeypatch
):
    learner, state, _ = apart(
        session, make_policy(),
        "correction.reject=token", "correction.reject_below=0.95", "correction.reject_above=1.05",
        "batch.updates_per_rollout=2",
    )  # fmt: skip
    assert learner.buffer.sampler_logp_NA is None
    seen = watch(learner, monkeypatch)
    _, _, values = gradient(learner, state)
    rejected = tokens = 0.0
    for batch in seen:
        if batch.correction_BT is None:
            continue
        ratio_BT = (batch.logp_BT.detach() - batch.old_logp_BT).exp()
        stays_BT = (ratio_BT >= 0.95) & (ratio_BT <= 1.05)
        assert bool((batch.correction_BT[batch.mask_BT] == stays_BT[batch.mask_BT].float()).all())
        rejected += float((~stays_BT & batch.mask_BT).sum())
        tokens += float(batch.mask_BT.sum())
    assert 0 < rejected < tokens
    assert values["correction/rejected_frac"] == pytest.approx(rejected / tokens)
    assert values["gen_kl_error"] > 1e-4
    state.updates_done = state.step = 1
    _, _, values = gradient(learner, state)
    assert "gen_kl_error" not in values and "correction/rejected_frac" in values


def test_what_a_checkpoint_holds_of_a_batch_knows_its_sampler(session):
    learner, _, _ = apart(
        session, make_policy(), "correction.old_policy=trainer", "batch.updates_per_rollout=2"
    )
    saved = learner.buffer.tensors()
    other = type(learner.buffer).restored(saved)
    assert torch.equal(other.sampler_logp_NA, learner.buffer.sampler_logp_NA)


def test_the_alarm_rings_once_until_the_gap_has_closed(session, monkeypatch):
    said = []
    monkeypatch.setattr(session.report, "alert", lambda *args, **more: said.append(args))
    alarm, mask_BT = MismatchAlarm(), torch.ones(1, 100, dtype=torch.bool)

    def look(gap, stale=0, **correction):
        found = Mismatch(Correction(**correction).resolved(0))
        found.add(torch.full((1, 100), gap), torch.zeros(1, 100), mask_BT)
        alarm.look(found, session, stale)

    look(1e-4)
    assert not said
    look(0.1)
    look(0.1)
    (first,) = said
    assert first[:2] == ("warning", "mismatch") and "arithmetic" in first[2]
    look(1e-4)
    look(0.1, stale=3)
    assert len(said) == 2 and "up to 3 batches old" in said[1][2]
    look(1e-4)
    look(0.1, stale=1, old_policy="trainer")
    # Who corrects already is not told to.
    assert "1 batch old; token weights make it good" in said[2][2] and "=" not in said[2][2]
