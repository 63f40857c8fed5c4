"""Which charts a run's page holds."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.selectors.run_words import chart_plans

STEERED = {"beta": 0.1, "beta_schedule": "target", "kl_target": 0.1}


@pytest.mark.parametrize(
    ("objective", "wanted"),
    [
        ({"type": "grpo"}, []),
        ({"type": "grpo", "beta": 0.1}, []),
        ({"type": "grpo", **STEERED}, [("beta",)]),
        ({"type": "grpo", "beta": 0.1, "beta_schedule": "linear"}, [("beta",)]),
        ({"type": "ppo", "entropy_target": 1.0}, [("entropy_coef", "entropy_coef_applied")]),
        ({"type": "bco"}, [("reward_shift",)]),
        ({"type": "bco", "shift_rate": 0}, []),
        ({"type": "sft"}, []),
        ({"type": "of another version"}, []),
    ],
)
def test_a_coefficient_that_moves_has_a_chart(
    objective: dict[str, Any], wanted: list[tuple[str, ...]]
) -> None:
    plain = {plan.keys for plan in chart_plans({"objective": {"type": objective["type"]}})}
    found = [plan.keys for plan in chart_plans({"objective": objective})]
    dials = ("beta", "entropy_coef", "reward_shift")
    assert [keys for keys in found if keys[0] in dials] == wanted
    assert plain - {("reward_shift",)} <= set(found)
