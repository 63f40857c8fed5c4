"""The KL term by exact enumeration; silence only where the gradient is exactly zero."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.engine.support import make_policy, tiny_spec
from tests.trainer.known_bugs.support import apart, gathered, gradient, objectives, trained
from trainer.engine.batches import Rollouts
from trainer.registry import family
from trainer.spec import SpecError

V = 6


def tables():
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(V, generator=draw, dtype=torch.float64)
    reference = torch.randn(V, generator=draw, dtype=torch.float64).log_softmax(-1)
    return logits, reference


def exact_gradient(forward):
    """Of KL(policy || reference), or of KL(reference || policy), for the logits."""
    logits, reference = tables()
    logits.requires_grad_()
    logp = logits.log_softmax(-1)
    one, other = (reference, logp) if forward else (logp, reference)
    (one.exp() * (one - other)).sum().backward()
    return logits.grad


def gradient_of_the_term(**knobs):
    """Expected gradient of the loss over every one-token answer, each with its own probability."""
    objective = family("objectives")["grpo"](type="grpo", beta=1.0, **knobs)
    logits, reference = tables()
    logits.requires_grad_()
    logp = logits.log_softmax(-1)
    column = logp[:, None]
    batch = Rollouts(
        mask_BT=torch.ones(V, 1, dtype=torch.bool),
        old_logp_BT=column.detach(),
        advantage_BT=torch.zeros(V, 1, dtype=torch.float64),
        group_B=torch.zeros(V, dtype=torch.long),
        max_new_tokens=1,
        tokens=float(V),
        dials=objective.dials({}, {}, 0.0),
        ref_logp_BT=reference[:, None],
        weight_BT=column.detach().exp(),
        logp_BT=column,
    )
    objective.loss(batch).value.backward()
    return logits.grad


@pytest.mark.parametrize(
    ("knobs", "forward"),
    [
        ({"kl_estimator": "k3", "kl_ratio": True}, False),
        ({"kl_estimator": "k1", "kl_ratio": True}, False),
        ({"kl_estimator": "k2", "kl_ratio": False}, False),
        ({"kl_estimator": "k3", "kl_ratio": False}, True),
    ],
    ids=["ratio k3", "ratio k1", "k2", "k3 alone has the other direction's"],
)
def test_bug_29_the_kl_term_has_the_gradient_of_the_divergence_it_names(knobs, forward):
    found = gradient_of_the_term(**knobs)
    assert torch.allclose(found, exact_gradient(forward), atol=1e-9)
    assert not torch.allclose(found, exact_gradient(not forward), atol=1e-2)


def test_bug_29_kl_in_the_loss_is_the_default_with_the_right_gradient():
    assert torch.allclose(gradient_of_the_term(), exact_gradient(False), atol=1e-9)


@pytest.mark.parametrize("knobs", [("k1", "false"), ("k2", "true")], ids=" ".join)
def test_bug_29_estimators_without_that_gradient_are_refused(knobs):
    estimator, ratio = knobs
    with pytest.raises(SpecError, match=f"{estimator} with"):
        tiny_spec(
            "objective.type=grpo", "objective.beta=0.1",
            f"objective.kl_estimator={estimator}", f"objective.kl_ratio={ratio}",
        )  # fmt: skip


@pytest.mark.parametrize("name", trained("rollouts"))
def test_bug_27_skipped_answers_give_the_gradient_of_answers_not_skipped(
    session, monkeypatch, name
):
    """All of the method's groups stay in every denominator."""
    found = []
    silent = tiny_spec(*objectives()[name]).objective.silent_without_advantage
    for skip in (True, False):
        if not skip:
            kind = type(tiny_spec(*objectives()[name]).objective)
            monkeypatch.setattr(kind, "silent_without_advantage", property(lambda self: False))
        learner, state, means = gathered(session, make_policy(), *objectives()[name], nudge=0.01)
        found.append(gradient(learner, state, means))
    (loss, grad, skipped), (whole_loss, whole, values) = found
    assert values["groups/skipped_tokens_frac"] == 0
    assert (skipped["groups/skipped_tokens_frac"] > 0) == silent
    assert loss == pytest.approx(whole_loss, abs=1e-6)
    assert apart(grad, whole) < 2e-6


def test_bug_27_a_silent_group_is_skipped_only_where_nothing_else_pulls_at_it(session, monkeypatch):
    monkeypatch.setattr(family("rewards")["exact-match"], "score", lambda self, answer: 0.5)
    rewards = 'rewards=[{type = "exact-match"}]'
    plain = gathered(session, make_policy(), "objective.type=grpo", rewards, nudge=0.01)
    _, grad, values = gradient(*plain)
    assert values["groups/skipped_tokens_frac"] == 1 and not grad.any()
    held = gathered(
        session, make_policy(), "objective.type=grpo", "objective.beta=0.1", rewards, nudge=0.01
    )
    _, grad, values = gradient(*held)
    assert values["groups/skipped_tokens_frac"] == 0
    assert float(grad.norm()) > 1e-4
