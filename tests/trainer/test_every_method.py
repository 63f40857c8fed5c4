"""Every objective, advantage and adapter that is registered trains the starter model for 20 steps."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from trainer.__main__ import main as command
from trainer.journal import read_events
from trainer.registry import family
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from pathlib import Path

STEPS = 20
PROMPTS = [f"{a}{b}{c}" for a in "314" for b in "592" for c in "653"]


def rows(learns_from: str) -> list[dict[str, Any]]:
    """Rows of each kind: sort three digits."""
    found: list[dict[str, Any]] = []
    for number, digits in enumerate(PROMPTS):
        prompt, right = f"sort {digits} = ", "".join(sorted(digits))
        wrong = right[::-1] if right != right[::-1] else "x" + right
        if learns_from == "pairs":
            # A margin for the objectives that want one; the others leave it alone.
            margin = 0.5 + number % 3
            found.append({"prompt": prompt, "chosen": right, "rejected": wrong, "margin": margin})
        elif learns_from == "labels":
            good = number % 2 == 0
            found.append({"prompt": prompt, "completion": right if good else wrong, "label": good})
        elif learns_from == "ratings":
            found.append({"prompt": prompt, "completion": right, "rating": [number % 5, 1.0]})
        else:
            found.append({"prompt": prompt, "completion": right, "answer": right})
    return found


def trained(tmp_path: Path, objective: str, **parts: Any) -> list[dict[str, Any]]:
    """The journal of a run of 20 steps; asserts that it finished them with finite numbers."""
    learns_from = family("objectives")[objective].learns_from  # type: ignore[attr-defined]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(learns_from)))
    spec: dict[str, Any] = {
        "model": {"name": "starter", "options": {"hidden_size": 32, "layers": 2, "heads": 2}},
        "data": {
            "train": [{"source": str(data)}],
            "eval": [{"source": str(data), "limit": 8}],
            "max_prompt_tokens": 32,
            "max_tokens": 48,
        },
        "objective": {"type": objective},
        "optimizer": {"lr": 1e-3},
        "batch": {"prompts_per_step": 4, "tokens_per_microbatch": 128},
        "budget": {"max_steps": STEPS},
        "evaluation": {"every_steps": 10},
        "checkpoint": {"every_steps": 10},
        **parts,
    }
    if learns_from == "rollouts":
        # Half of the untrained model's answers earn it: there is something to compare.
        digit = {"type": "format-regex", "pattern": "[0-9]"}
        spec["rewards"] = [{"type": "exact-match"}, digit]
        spec["rollout"] = {"group_size": 4, "max_new_tokens": 5}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert command(["run", str(path), "--dir", str(tmp_path / "run")]) == 0
    events = list(read_events(RunDir(tmp_path / "run").attempt(1).journal("trainer")))
    assert events[-1]["state"] == "finished" and events[-1]["step"] == STEPS
    values = [event["values"] for event in events if event["type"] == "metrics"]
    losses = [float(line["loss"]) for line in values if "loss" in line]
    assert len(losses) == STEPS
    assert all(math.isfinite(loss) for loss in losses)
    # The weights moved: a loss without a gradient would go unnoticed otherwise.
    assert any(float(line.get("grad_norm", 0)) > 0 for line in values)
    assert any(key.startswith("eval/") for line in values for key in line)
    return events


@pytest.mark.parametrize("objective", sorted(family("objectives")))
def test_every_objective_trains_for_twenty_steps(tmp_path: Path, objective: str) -> None:
    trained(tmp_path, objective)


def online() -> dict[bool, str]:
    """For each answer to "needs a critic" the first objective that learns from rollouts."""
    found: dict[bool, str] = {}
    for tag, method in sorted(family("objectives").items()):
        if method.learns_from == "rollouts":  # type: ignore[attr-defined]
            found.setdefault("critic" in method.needs, tag)  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("advantage", sorted(family("advantages")))
def test_every_advantage_trains_for_twenty_steps(tmp_path: Path, advantage: str) -> None:
    critic = "critic" in family("advantages")[advantage].needs  # type: ignore[attr-defined]
    trained(tmp_path, online()[critic], advantage={"type": advantage})


@pytest.mark.parametrize("adapter", sorted(family("adapters")))
@pytest.mark.parametrize("objective", ["dpo", "grpo", "sft"])
def test_every_adapter_trains_for_twenty_steps(
    tmp_path: Path, adapter: str, objective: str
) -> None:
    trained(tmp_path, objective, adapter={"type": adapter})
