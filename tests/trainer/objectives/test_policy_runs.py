"""Policy objectives in the real loop: all filters and controllers on, several updates per batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tests.trainer.engine.support import Runs
from tests.trainer.objectives.rollouts import objective, online_tags
from trainer.metrics import help_of

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 6
EVERYTHING = (
    "objective.beta=0.05",
    "objective.beta_schedule=target",
    "objective.kl_target=0.001",
    "objective.entropy_coef=0.01",
    "objective.entropy_target=10.0",
    "objective.top_entropy=0.5",
    "objective.mask_truncated=true",
    "objective.off_policy_delta=0.0001",
    "objective.aggregation=prompt-mean",
    "batch.updates_per_rollout=2",
    "rollout.max_new_tokens=6",
    "optimizer.lr=1e-3",
    f"budget.max_steps={STEPS}",
)


def steps_of(runs: Runs, name: str) -> list[dict[str, float]]:
    """The metrics of each optimizer step, evaluations left out."""
    values: dict[int, dict[str, float]] = {}
    for (step, key), value in runs.metrics(name).items():
        if step and not key.startswith("eval/"):
            values.setdefault(step, {})[key] = float(value)
    return [values[step] for step in sorted(values)]


@pytest.mark.parametrize("tag", online_tags())
def test_everything_at_once_trains(tmp_path: Path, tag: str) -> None:
    runs = Runs(tmp_path)
    # An objective without a ratio may take one update on each batch only.
    once = ["batch.updates_per_rollout=1"] if objective(tag).on_policy else []
    assert runs.run("all", f"objective.type={tag}", *EVERYTHING, *once) == 0
    steps = steps_of(runs, "all")
    assert len(steps) == STEPS
    for values in steps:
        assert all(math.isfinite(value) for value in values.values()), values
        wanted = {"kl", "entropy/trained", "policy_loss", "off_policy_masked_frac", "beta"}
        assert wanted <= set(values)
    # The controllers read what the step before measured: KL starts at 0, below its target.
    betas = [values["beta"] for values in steps]
    assert betas[0] == 0.05 and betas[1] == pytest.approx(0.05 * 0.98)
    coefficients = [values["entropy_coef"] for values in steps]
    assert coefficients == pytest.approx([0.01 + 0.005 * step for step in range(STEPS)])
    assert [values["entropy_coef_applied"] for values in steps][:2] == pytest.approx([0.0, 0.015])
    unknown = [key for key in steps[-1] if "own methods" in help_of(key).definition]
    assert unknown == []


@pytest.mark.parametrize("tag", ["gspo", "gmpo", "ppo"])
def test_the_micro_batch_does_not_change_the_run(tmp_path: Path, tag: str) -> None:
    runs = Runs(tmp_path)
    for name, budget in (("small", 24), ("large", 4096)):
        small = f"batch.tokens_per_microbatch={budget}"
        assert runs.run(name, f"objective.type={tag}", *EVERYTHING, small) == 0
    for small, large in zip(steps_of(runs, "small"), steps_of(runs, "large"), strict=True):
        for key in ("loss", "grad_norm", "kl", "entropy/trained", "policy_loss"):
            assert small[key] == pytest.approx(large[key], rel=2e-3, abs=1e-5), key
