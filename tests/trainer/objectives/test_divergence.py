"""KL to the reference: value and gradient of every form by exact enumeration, in double precision.

The expectation is over a vocabulary of six: one answer of one token for each outcome, weighed by the
probability that it is sampled.
"""

from __future__ import annotations

import pytest
import torch

from tests.trainer.objectives.rollouts import objective
from trainer.engine.batches import Rollouts
from trainer.objectives._divergence import kl_problem

SIX = 6


def policies() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of the policy, log-probabilities of the reference and of another policy that sampled."""
    torch.manual_seed(0)
    logits = torch.randn(SIX, dtype=torch.double, requires_grad=True)
    ref = torch.randn(SIX, dtype=torch.double).log_softmax(0)
    other = (logits.detach() + 0.5 * torch.randn(SIX, dtype=torch.double)).log_softmax(0)
    return logits, ref, other


def kl_term(
    estimator: str, ratio: bool, *, on_policy: bool = True, tag: str = "grpo"
) -> tuple[float, torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Value and gradient of the term; gradients of KL(pi || ref) and KL(ref || pi); KL(pi || ref)."""
    logits, ref, other = policies()
    logp = logits.log_softmax(0)
    old = logp.detach() if on_policy else other
    reverse = (logp.exp() * (logp - ref)).sum()
    forward = (ref.exp() * (ref - logp)).sum()
    (reverse_grad,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    (forward_grad,) = torch.autograd.grad(forward, logits, retain_graph=True)
    # Without validation: the refused combinations are enumerated too.
    method = objective(tag).model_copy(
        update={"beta": 1.0, "kl_estimator": estimator, "kl_ratio": ratio}
    )
    batch = Rollouts(
        mask_BT=torch.ones(SIX, 1, dtype=torch.bool),
        old_logp_BT=old[:, None],
        advantage_BT=torch.zeros(SIX, 1, dtype=torch.double),
        group_B=torch.zeros(SIX, dtype=torch.long),
        max_new_tokens=1,
        ref_logp_BT=ref[:, None],
        weight_BT=old.exp()[:, None],
        logp_BT=logp[:, None],
    )
    loss = method.loss(batch).value
    (found,) = torch.autograd.grad(loss, logits)
    return float(loss.detach()), found, reverse_grad, forward_grad, float(reverse.detach())


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("estimator", "ratio"), [("k2", False), ("k1", True), ("k3", True)])
def test_these_forms_have_the_gradient_of_kl_to_the_reference(estimator: str, ratio: bool) -> None:
    value, found, reverse, _, kl = kl_term(estimator, ratio)
    assert apart(found, reverse) < 1e-10
    if estimator != "k2":
        assert value == pytest.approx(kl, rel=1e-10)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_ratio_keeps_value_and_gradient_right_off_policy(estimator: str) -> None:
    value, found, reverse, _, kl = kl_term(estimator, True, on_policy=False)
    assert value == pytest.approx(kl, rel=1e-10)
    assert apart(found, reverse) < 1e-10
    _, without, reverse, _, _ = kl_term("k2", False, on_policy=False)
    assert apart(without, reverse) > 0.05


def test_plain_k3_has_the_gradient_of_the_other_direction() -> None:
    value, found, reverse, forward, kl = kl_term("k3", False)
    assert value == pytest.approx(kl, rel=1e-10)
    assert apart(found, forward) < 1e-10
    assert apart(found, reverse) > 0.1


def test_the_refused_forms_are_wrong() -> None:
    _, nothing, _, _, _ = kl_term("k1", False)
    assert nothing.norm() < 1e-12
    _, found, reverse, _, _ = kl_term("k2", True)
    assert apart(found, reverse) > 0.1
    assert "no gradient" in kl_problem("k1", ratio=False, place="loss")
    assert "wrong gradient" in kl_problem("k2", ratio=True, place="loss")


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_in_the_reward_only_k1_has_the_gradient_of_kl(estimator: str) -> None:
    """The penalty is a part of the advantage: -A logp with A = -estimate."""
    logits, ref, _ = policies()
    logp = logits.log_softmax(0)
    reverse = (logp.exp() * (logp - ref)).sum()
    (wanted,) = torch.autograd.grad(reverse, logits, retain_graph=True)
    x = (logp - ref).detach()
    penalty = {"k1": x, "k2": x**2 / 2, "k3": (-x).exp() + x - 1}[estimator]
    batch = Rollouts(
        mask_BT=torch.ones(SIX, 1, dtype=torch.bool),
        old_logp_BT=logp.detach()[:, None],
        advantage_BT=-penalty[:, None],
        group_B=torch.zeros(SIX, dtype=torch.long),
        max_new_tokens=1,
        weight_BT=logp.detach().exp()[:, None],
        logp_BT=logp[:, None],
    )
    (found,) = torch.autograd.grad(objective("reinforce").loss(batch).value, logits)
    right = estimator == "k1"
    assert (apart(found, wanted) < 1e-10) == right
    assert (kl_problem(estimator, ratio=True, place="reward") == "") == right


@pytest.mark.parametrize("tag", ["gspo", "cispo", "sapo", "gmpo", "dppo", "reinforce"])
def test_the_term_is_the_same_in_every_objective(tag: str) -> None:
    value, found, reverse, _, kl = kl_term("k3", True, tag=tag)
    assert value == pytest.approx(kl, rel=1e-10)
    assert apart(found, reverse) < 1e-10


def test_the_metric_is_the_plain_estimate_over_all_tokens() -> None:
    logits, ref, _ = policies()
    logp = logits.detach().log_softmax(0)
    x = logp - ref
    method = objective("grpo", beta=0.1, kl_estimator="k3")
    batch = Rollouts(
        mask_BT=torch.ones(1, SIX, dtype=torch.bool),
        old_logp_BT=logp[None, :] - 0.3,
        advantage_BT=torch.ones(1, SIX, dtype=torch.double),
        group_B=torch.zeros(1, dtype=torch.long),
        max_new_tokens=SIX,
        ref_logp_BT=ref[None, :],
        weight_BT=torch.ones(1, SIX),
        logp_BT=logp[None, :],
    )
    total, count = method.loss(batch).means["kl"]
    assert count == SIX
    assert total == pytest.approx(float(((-x).exp() + x - 1).sum()), rel=1e-12)
