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
from trainer.registry import Outcomes, family

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


def answers_of_two_tokens() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Logits of both tokens, and log-probabilities of all nine answers (N, T) by policy and reference."""
    torch.manual_seed(4)
    logits = [torch.randn(3, dtype=torch.double), torch.randn(3, 3, dtype=torch.double)]
    refs = [torch.randn(3, dtype=torch.double), torch.randn(3, 3, dtype=torch.double)]
    for one in logits:
        one.requires_grad_()
    first_N, second_N = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)

    def logps(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [first.log_softmax(0)[first_N], second.log_softmax(1)[first_N, second_N]], 1
        )

    return logits, logps(*logits), logps(*refs)


def gradient_of(value: torch.Tensor, logits: list[torch.Tensor]) -> torch.Tensor:
    found = torch.autograd.grad(value, logits, retain_graph=True)
    return torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("advantage", ["gae", "reinforce-plus-plus"])
def test_in_the_reward_a_token_answers_for_what_follows(advantage: str) -> None:
    """Over whole answers: with the return to go, the gradient is exactly that of the answers' KL."""
    logits, logp_NT, ref_NT = answers_of_two_tokens()
    chance_N = logp_NT.sum(1).exp()
    wanted = gradient_of((chance_N * (logp_NT - ref_NT).sum(1)).sum(), logits)
    method = family("advantages")[advantage](type=advantage)
    whole_NT = torch.ones(9, 2, dtype=torch.bool)
    outcomes = Outcomes(
        torch.zeros(9, dtype=torch.double),
        torch.arange(9),
        whole_NT,
        penalty_NT=(logp_NT - ref_NT).detach(),
        value_NT=torch.zeros(9, 2, dtype=torch.double),
    )
    if advantage == "gae":
        method = method.model_copy(update={"lam": 1.0, "whiten": False})
    advantage_NT = method.advantages(outcomes)
    batch = Rollouts(
        mask_BT=whole_NT,
        old_logp_BT=logp_NT.detach(),
        advantage_BT=advantage_NT,
        group_B=torch.arange(9),
        max_new_tokens=2,
        weight_BT=chance_N.detach()[:, None].expand(9, 2),
        logp_BT=logp_NT,
    )
    found = gradient_of(objective("reinforce").loss(batch).value, logits)
    if advantage == "gae":
        assert apart(found, wanted) < 1e-10
    # Whitening shifts all tokens alike, which an exact expectation does not see, and scales them.
    assert float(torch.dot(found, wanted) / found.norm() / wanted.norm()) == pytest.approx(1)


def test_in_the_loss_a_token_answers_for_itself() -> None:
    """KL of each next token behind the answers as they were drawn; how they were drawn is not moved."""
    logits, logp_NT, ref_NT = answers_of_two_tokens()
    chance_N = logp_NT.sum(1).exp().detach()
    batch = Rollouts(
        mask_BT=torch.ones(9, 2, dtype=torch.bool),
        old_logp_BT=logp_NT.detach(),
        advantage_BT=torch.zeros(9, 2, dtype=torch.double),
        group_B=torch.arange(9),
        max_new_tokens=2,
        ref_logp_BT=ref_NT,
        weight_BT=chance_N[:, None].expand(9, 2),
        logp_BT=logp_NT,
    )
    found = gradient_of(objective("grpo", beta=1.0).loss(batch).value, logits)
    first_3 = (logp_NT - ref_NT)[::3, 0]
    second_33 = (logp_NT - ref_NT)[:, 1].view(3, 3)
    p_3, q_33 = logp_NT[::3, 0].exp(), logp_NT[:, 1].view(3, 3).exp()
    of_tokens = (p_3 * first_3).sum() + (p_3.detach() * (q_33 * second_33).sum(1)).sum()
    assert apart(found, gradient_of(of_tokens, logits)) < 1e-10
    of_answers = gradient_of((logp_NT.sum(1).exp() * (logp_NT - ref_NT).sum(1)).sum(), logits)
    assert apart(found, of_answers) > 0.05


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
