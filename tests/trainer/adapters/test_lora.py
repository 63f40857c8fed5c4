"""LoRA's update is alpha / r times B A, and starts at nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trainer.adapters.lora import LoRA
from trainer.engine.adapted import adapter_attach


def layer(**knobs):
    """A linear layer of 5 inputs and 3 outputs with the adapter in it."""
    from torch import nn

    model = nn.Sequential()
    model.add_module("wide", nn.Linear(5, 3))
    lora = LoRA(type="lora", target_modules=("wide",), **knobs)
    adapter_attach(model, lora.peft_config(), 0)
    return model


def numbers(tensor):
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("rslora", [False, True])
def test_it_equals_its_formula(rslora):
    model = layer(r=2, alpha=6, use_rslora=rslora)
    wide = model.get_submodule("wide")
    a, b = wide.lora_A["default"].weight, wide.lora_B["default"].weight
    x = torch.randn(4, 5)
    assert torch.equal(model(x), wide.base_layer(x))
    with torch.no_grad():
        b.copy_(torch.randn(b.shape))
    scale = 6 / (math.sqrt(2) if rslora else 2)
    weight = numbers(wide.base_layer.weight) + scale * numbers(b) @ numbers(a)
    expected = numbers(x) @ weight.T + numbers(wide.base_layer.bias)
    assert np.allclose(numbers(model(x)), expected, atol=1e-5)


def test_dora_equals_its_formula():
    model = layer(r=2, alpha=2, use_dora=True)
    wide = model.get_submodule("wide")
    a, b = wide.lora_A["default"].weight, wide.lora_B["default"].weight
    magnitude = wide.lora_magnitude_vector["default"].weight
    with torch.no_grad():
        b.copy_(torch.randn(b.shape))
        magnitude.mul_(1.5)
    x = torch.randn(4, 5)
    weight = numbers(wide.base_layer.weight) + numbers(b) @ numbers(a)
    weight *= (numbers(magnitude) / np.linalg.norm(weight, axis=1))[:, None]
    expected = numbers(x) @ weight.T + numbers(wide.base_layer.bias)
    assert np.allclose(numbers(model(x)), expected, atol=1e-5)


@pytest.mark.parametrize("init", ["kaiming", "gaussian"])
def test_only_the_update_is_trained(init):
    model = layer(init=init)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"wide.lora_A.default.weight", "wide.lora_B.default.weight"}


def test_it_has_no_knob_that_would_do_nothing():
    for knob in ({"dropout": 0.1}, {"r": 0}, {"alpha": 0}, {"init": "pissa"}):
        with pytest.raises(ValidationError):
            LoRA(type="lora", **knob)
