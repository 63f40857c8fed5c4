"""Our advantages equal those that TRL's trainers compute, in TRL's own method, from the same scores.

The method runs unchanged on a trainer object that was never constructed: it holds only the settings that
the method reads; answers, scores and log-probabilities are handed to it.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.trainer.advantages.support import NAN, estimate
from trainer.registry import Outcomes

trl = pytest.importorskip("trl", reason="TRL is the numeric reference: pip install trl==1.16.0")

GROUP, PROMPTS = 4, 5
LENGTHS = [(3 * place) % 7 + 1 for place in range(GROUP * PROMPTS)]
GROUP_N = torch.arange(PROMPTS).repeat_interleave(GROUP)
WEIGHT_K = torch.tensor([1.0, 0.3, -0.5])


def scores() -> torch.Tensor:
    """Scores of three rewards (N, K): with gaps, one unscorable answer, an all-equal and a lone answer."""
    torch.manual_seed(7)
    score_NK = torch.rand(GROUP * PROMPTS, len(WEIGHT_K))
    score_NK[2, 1] = NAN
    score_NK[6] = NAN
    score_NK[8:12] = score_NK[8]
    score_NK[13:16] = NAN
    return score_NK


def totals(score_NK: torch.Tensor) -> torch.Tensor:
    total_N = (score_NK * WEIGHT_K).nansum(1)
    return total_N.masked_fill(score_NK.isnan().all(1), NAN)


@pytest.fixture
def mask_NT() -> torch.Tensor:
    return torch.arange(max(LENGTHS))[None, :] < torch.tensor(LENGTHS)[:, None]


def trainer_of(name: str, score_NK: torch.Tensor, monkeypatch: Any, **settings: Any) -> Any:
    """A TRL trainer that samples nothing: its answers and their scores are given."""
    from trl.trainer import grpo_trainer, rloo_trainer

    module, cls = {
        "grpo": (grpo_trainer, grpo_trainer.GRPOTrainer),
        "rloo": (rloo_trainer, rloo_trainer.RLOOTrainer),
    }[name]
    for function in ("gather", "gather_object"):
        if hasattr(module, function):
            monkeypatch.setattr(module, function, lambda value: value)
    monkeypatch.setattr(module, "disable_gradient_checkpointing", lambda *_: nullcontext())
    trainer = cls.__new__(cls)
    answers = [[5] * length for length in LENGTHS]
    prompts = [[1]] * len(answers)
    sampled = (
        (prompts, answers, None, answers, None, {}, None, None)
        if name == "grpo"
        else (prompts, answers, answers)
    )
    defaults = {
        "model": SimpleNamespace(training=True),
        "accelerator": SimpleNamespace(
            device=torch.device("cpu"),
            process_index=0,
            num_processes=1,
            gather=lambda value: value,
            reduce=lambda value, reduction="sum": value,
        ),
        "args": SimpleNamespace(
            gradient_accumulation_steps=1,
            steps_per_generation=1,
            per_device_train_batch_size=len(answers),
            gradient_checkpointing_kwargs=None,
        ),
        "num_iterations": 1,
        "environment_factories": None,
        "environments": [],
        "tools": [],
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "pad_to_multiple_of": None,
        "mask_truncated_completions": False,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "beta": 0.0,
        "reward_clip_range": None,
        "num_generations": GROUP,
        "reward_weights": WEIGHT_K,
        "reward_funcs": [None] * len(WEIGHT_K),
        "reward_func_names": ["a", "b", "c"],
        "log_multimodal": False,
        "_metrics": {"train": defaultdict(list)},
        "_logs": defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        "_pending_extra_logs": {},
        "_pending_metrics": {},
    }
    for key, value in {**defaults, **settings}.items():
        setattr(trainer, key, value)
    trainer._generate = lambda prompts: sampled
    trainer._calculate_rewards = lambda *_: score_NK.clone()
    return trainer


def theirs(trainer: Any) -> torch.Tensor:
    inputs = [{"prompt": "p"} for _ in LENGTHS]
    return trainer._generate_and_score_completions(inputs)["advantages"]


def assert_close(ours_N: torch.Tensor, theirs_N: torch.Tensor) -> None:
    error = (ours_N - theirs_N).norm() / theirs_N.norm()
    assert error < 1e-5, f"relative error {error:.2e}"
    assert theirs_N.any()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_mean_std_equals_trl(scale: str, mask_NT: torch.Tensor, monkeypatch: Any) -> None:
    score_NK = scores()
    trainer = trainer_of(
        "grpo",
        score_NK,
        monkeypatch,
        multi_objective_aggregation="sum_then_normalize",
        scale_rewards=scale,
    )
    ours_N = estimate("group-mean-std", Outcomes(totals(score_NK), GROUP_N, mask_NT), scale=scale)
    assert_close(ours_N, theirs(trainer))


def test_gdpo_equals_trl(mask_NT: torch.Tensor, monkeypatch: Any) -> None:
    score_NK = scores()
    trainer = trainer_of(
        "grpo", score_NK, monkeypatch, multi_objective_aggregation="normalize_then_sum"
    )
    given = Outcomes(totals(score_NK), GROUP_N, mask_NT, parts_NK=score_NK, part_weight_K=WEIGHT_K)
    assert_close(estimate("gdpo", given), theirs(trainer))


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.07])
def test_rloo_equals_trl(
    normalise: bool, beta: float, mask_NT: torch.Tensor, monkeypatch: Any
) -> None:
    score_NK = scores()
    old_NT, ref_NT = -3 * torch.rand(2, *mask_NT.shape)
    handed = iter([(old_NT, None, None), (ref_NT, None, None)])
    trainer = trainer_of(
        "rloo",
        score_NK,
        monkeypatch,
        normalize_advantages=normalise,
        beta=beta,
        ref_model=object(),
        _get_per_token_logps_and_entropies=lambda *_, **__: next(handed),
    )
    penalty_NT = beta * (old_NT - ref_NT) if beta else None
    given = Outcomes(totals(score_NK), GROUP_N, mask_NT, penalty_NT=penalty_NT)
    ours_N = estimate("rloo", given, normalise=normalise)
    assert_close(ours_N, theirs(trainer))
