"""What the engine's tests share: tiny specs, a tiny policy, and runs in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from trainer.__main__ import main as command
from trainer.engine.load import policy_make, starter_build
from trainer.journal import read_events
from trainer.rundir import RunDir
from trainer.spec import Model, RunSpec, spec_parse
from trainer.specfile import with_overrides

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.policy import Policy

CHARACTERS = "0123456789sort ="
UNREPEATABLE = ("time/", "tokens/rollout_per_s", "tokens/train_per_s", "mfu", "rss_mb")
EXACT = {"type": "exact-match"}

TINY: dict[str, Any] = {
    "model": {"name": "starter", "options": {"hidden_size": 32, "layers": 2, "heads": 2}},
    "data": {
        "train": [{"source": "noisy-sort", "limit": 10, "options": {"digits": 3}}],
        "eval": [{"source": "noisy-sort", "split": "test", "limit": 6, "options": {"digits": 3}}],
        "max_prompt_tokens": 32,
        "max_tokens": 48,
    },
    "rewards": [EXACT, {"type": "length-window", "max_tokens": 5, "ramp": 3}],
    "rollout": {"group_size": 4, "max_new_tokens": 5},
    "optimizer": {"lr": 1e-2},
    "schedule": {"type": "cosine", "warmup_steps": 2},
    "batch": {"prompts_per_step": 4, "tokens_per_microbatch": 128},
    "budget": {"max_steps": 6},
    "evaluation": {"every_steps": 2},
    "checkpoint": {"every_steps": 2, "keep_last": 2, "keep_best": 0},
}
KINDS: dict[str, list[str]] = {
    "grpo": ["objective.type=grpo"],
    "grpo-two-updates": [
        "objective.type=grpo",
        "batch.updates_per_rollout=2",
        "rollout.top_p=0.9",
        "objective.beta=0.05",
    ],
    "grpo-minibatches": [
        "objective.type=grpo",
        "batch.updates_per_rollout=2",
        "batch.minibatches=2",
        "rollout.top_k=6",
        "objective.beta=0.05",
        "objective.beta_schedule=target",
        "objective.kl_target=0.01",
        "reference.sync_every=3",
        "reference.sync_mix=0.5",
    ],
    "ppo": [
        "objective.type=ppo",
        "objective.beta=0.05",
        "objective.kl_in=reward",
        "objective.kl_estimator=k1",
        "objective.entropy_target=2.0",
        "batch.minibatches=2",
        "reference.sync_every=2",
    ],
    "sft": ["objective.type=sft"],
    "dpo": ["objective.type=dpo", "objective.sft_weight=0.5"],
    "dpo-sync": ["objective.type=dpo", "reference.sync_every=3"],
}


class Runs:
    """Starts tiny runs below a folder and reads what they left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec_path = folder / "tiny.json"
        self.spec_path.write_text(json.dumps(TINY))

    def run(self, name: str, *overrides: str) -> int:
        return command(["run", str(self.spec_path), "--dir", str(self.folder / name), *overrides])

    def resume(self, name: str, *options: str) -> int:
        return command(["resume", str(self.folder / name), *options])

    def dir(self, name: str) -> RunDir:
        return RunDir(self.folder / name)

    def events(self, name: str, attempt: int = 1) -> list[dict[str, Any]]:
        return list(read_events(self.dir(name).attempt(attempt).journal("trainer")))

    def end(self, name: str, attempt: int = 1) -> dict[str, Any]:
        return self.events(name, attempt)[-1]

    def metrics(self, name: str) -> dict[tuple[int, str], Any]:
        """The newest value of every repeatable metric, over all attempts."""
        found: dict[tuple[int, str], Any] = {}
        for attempt in self.dir(name).attempts():
            for event in self.events(name, attempt):
                for key, value in event.get("values", {}).items():
                    if not key.removeprefix("warmup/").startswith(UNREPEATABLE):
                        found[event["step"], key] = value
        return found

    def checkpoint_bytes(self, name: str, step: int) -> dict[str, bytes]:
        folder = self.dir(name).checkpoint(step)
        files = ("model.safetensors", "trainer/state.safetensors")
        return {file: (folder / file).read_bytes() for file in files}


def tiny_spec(*overrides: str) -> RunSpec:
    return spec_parse(with_overrides(TINY, overrides))


def make_policy(seed: int = 0, scale: float = 4.0, **options: Any) -> Policy:
    """A starter with weights large enough for its distributions to be far from uniform."""
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, **options}
    model, tokenizer = starter_build(Model(options=shape), CHARACTERS, ["sort 50316 = "], seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return policy_make(model, tokenizer, torch.device("cpu"), "float32")


def nothing() -> None:
    """A tick that does nothing."""
