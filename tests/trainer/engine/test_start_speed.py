"""How fast a machine is: a number, and nothing of the model has changed."""

from __future__ import annotations

import pytest
import torch

from trainer.engine.start_speed import decode_seconds


@pytest.mark.parametrize("training", [True, False])
def test_a_pass_over_one_token_is_timed_and_leaves_no_trace(policy, training):
    policy.model.train(training)
    weights = {name: value.clone() for name, value in policy.model.state_dict().items()}
    state = torch.get_rng_state()
    assert 0 < decode_seconds(policy) < 60
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(weights[name], value) for name, value in policy.model.state_dict().items()
    )
    assert all(parameter.grad is None for parameter in policy.model.parameters())
    assert policy.model.training is training
