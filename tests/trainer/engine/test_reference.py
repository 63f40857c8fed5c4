"""The reference: frozen, or pulled towards the policy; what it said is forgotten when it moves."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.engine.test_learners import gradient, make_learner
from trainer.engine.means import Means
from trainer.engine.reference import Reference


def weights(policy):
    return {name: value.detach().clone() for name, value in policy.model.named_parameters()}


@pytest.mark.parametrize("mix", [0.6, 1.0])
def test_a_sync_mixes_every_weight(mix):
    policy, reference = make_policy(seed=1), Reference(partial(make_policy, seed=0))
    before = weights(reference.get())
    reference.sync(policy, mix)
    now, other = weights(reference.get()), weights(policy)
    for name, value in now.items():
        assert torch.allclose(value, mix * other[name] + (1 - mix) * before[name], atol=1e-6)
        assert not torch.equal(value, before[name]) or torch.equal(before[name], other[name])
    assert not any(p.requires_grad for p in reference.get().model.parameters())


def test_weights_are_saved_once_they_have_moved_and_come_back():
    reference = Reference(partial(make_policy, seed=0))
    assert reference.tensors() == {}
    reference.sync(make_policy(seed=1), 0.5)
    saved = {name: value.clone() for name, value in reference.tensors().items()}
    again = Reference(partial(make_policy, seed=0))
    again.restore({"something": torch.zeros(1)})
    assert again.tensors() == {}
    again.restore(saved | {"something": torch.zeros(1)})
    assert weights(again.get()).keys() == weights(reference.get()).keys()
    for name, value in weights(again.get()).items():
        assert torch.equal(value, weights(reference.get())[name])
    # And from there they move on alike.
    for one in (reference, again):
        one.sync(make_policy(seed=2), 0.5)
    assert all(torch.equal(a, again.tensors()[n]) for n, a in reference.tensors().items())


def test_a_memory_is_emptied_when_the_reference_moves():
    reference = Reference(partial(make_policy, seed=0))
    one, two = reference.memory(), reference.memory()
    one["row"] = two["row"] = 1.0
    reference.sync(make_policy(seed=1), 0.5)
    assert not one and not two


def test_scores_of_pairs_are_computed_anew_after_a_sync(session):
    policy = make_policy()
    learner, state = make_learner(session, policy, "objective.type=dpo")
    learner.gather(state, Means())
    gradient(learner, state)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    _, _, before = gradient(learner, state)
    assert abs(before["rewards/margins"]) > 1e-3
    learner.reference.sync(policy, 1.0)
    # The reference is the policy now: nothing is preferred to it.
    _, _, after = gradient(learner, state)
    assert after["rewards/margins"] == pytest.approx(0, abs=1e-6)
