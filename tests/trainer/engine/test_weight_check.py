"""A copy of the weights is believed only when it says what the policy says."""

from __future__ import annotations

import math

import pytest
import torch

from tests.trainer.engine.support import make_policy
from trainer.engine.failure import Failure
from trainer.engine.weight_check import TOLERANCE, difference, probe_logps, trusted


def test_the_probe_is_scored_as_by_the_model_itself_and_leaves_its_mode_alone():
    policy, probe = make_policy(), [3, 7, 4, 9]
    policy.model.train()
    found = probe_logps(policy, probe)
    assert policy.model.training
    policy.model.eval()
    with torch.no_grad():
        logits = policy.model(torch.tensor([probe])).logits[0].log_softmax(-1)
    assert found == pytest.approx([float(logits[i, probe[i + 1]]) for i in range(3)], abs=1e-6)


def test_a_difference_is_a_mean_and_no_number_is_as_far_as_can_be():
    assert difference([0.0, -1.0], [0.5, -1.0]) == 0.25
    for bad in (math.nan, -math.inf):
        assert difference([0.0, -1.0], [bad, -1.0]) == math.inf


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_more_than_the_precision_explains_ends_the_run(dtype):
    trusted(0.9 * TOLERANCE[dtype], dtype, "vllm")
    for gap in (1.1 * TOLERANCE[dtype], math.inf):
        with pytest.raises(Failure, match=rf"vLLM and the trainer differ .*\({dtype}\)") as failure:
            trusted(gap, dtype, "vllm")
        assert failure.value.cause == "weight-sync"
