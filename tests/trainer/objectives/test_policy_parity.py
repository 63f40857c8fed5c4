"""Policy objectives equal TRL's own code on the same tensors, in value and gradient (relative error < 1e-5).

TRL's loss methods run unchanged on a trainer object that was never constructed: it holds only the
settings that the method reads, and its model is a function that returns the log-probabilities.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.trainer.objectives.rollouts import SPLITS, objective, outcome, rollouts

if TYPE_CHECKING:
    from trainer.engine.batches import Rollouts

trl = pytest.importorskip("trl", reason="TRL is the numeric reference: pip install trl==1.16.0")

TOLERANCE = 1e-5
SMALLEST = 1e-2
"""A loss is a difference of terms of about 1, which may cancel: below this its error is absolute."""
CLIP_METRICS = ("low_mean", "high_mean", "region_mean", "low_min", "high_max")


def accelerator() -> SimpleNamespace:
    return SimpleNamespace(
        num_processes=1,
        device=torch.device("cpu"),
        sync_gradients=True,
        reduce=lambda tensor, reduction="sum": tensor,
        gather=lambda tensor: tensor,
        gather_for_metrics=lambda tensor: tensor,
        pad_across_processes=lambda tensor, dim=0, pad_index=0: tensor,
    )


def trl_trainer(**settings: Any) -> Any:
    """A trainer of TRL that holds what its loss reads and no more."""
    if settings.pop("gmpo", False):
        from trl.experimental.gmpo.gmpo_trainer import GMPOTrainer as Trainer
    else:
        from trl.trainer.grpo_trainer import GRPOTrainer as Trainer
    arguments = {
        "delta": None,
        "use_bias_correction_kl": False,
        "steps_per_generation": 1,
        "sapo_temperature_pos": 1.0,
        "sapo_temperature_neg": 1.05,
        "vespo_k_pos": 2.0,
        "vespo_lambda_pos": 3.0,
        "vespo_k_neg": 3.0,
        "vespo_lambda_neg": 2.0,
        "entropy_target": 0.0,
        "entropy_coef_delta": 0.005,
        "entropy_coef_min": 0.0,
        "entropy_coef_max": 1.0,
    }
    attributes = {
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator(),
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "loss_type": "dapo",
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": 9,
        "_entropy_bonus_enabled": False,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
        "_last_world_entropy": float("inf"),
        "_entropy_window_stats": None,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in settings.items():
        assert name in arguments or name in attributes, name
        (arguments if name in arguments else attributes)[name] = value
    trainer = Trainer.__new__(Trainer)
    trainer.args = SimpleNamespace(**arguments)
    for name, value in attributes.items():
        setattr(trainer, name, value)
    return trainer


def trl_outcome(
    trainer: Any, batch: Rollouts, *, drop_truncated: bool = False
) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    """Loss, gradients of log-probabilities and entropies, and metrics, by TRL."""
    mask_BT = batch.mask_BT
    if drop_truncated:
        mask_BT = mask_BT & ~batch.truncated_B[:, None]
    logp_BT = batch.logp_BT.clone().requires_grad_()
    entropy_BT = batch.entropy_BT.clone().requires_grad_()
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logp_BT, entropy_BT, None)
    ids = torch.zeros(mask_BT.shape, dtype=torch.long)
    loss = trainer._compute_loss(
        None,
        {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1] + 1,
            "completion_ids": ids,
            "completion_mask": mask_BT.long(),
            "advantages": batch.advantage_BT[:, 0],
            "old_per_token_logps": batch.old_logp_BT,
            "ref_per_token_logps": batch.ref_logp_BT,
            "num_items_in_batch": mask_BT.sum(),
        },
    )
    loss.backward()
    metrics = {key: values[-1] for key, values in trainer._metrics["train"].items()}
    gradients = {
        "logp_BT": logp_BT.grad,
        "entropy_BT": torch.zeros_like(entropy_BT) if entropy_BT.grad is None else entropy_BT.grad,
    }
    return float(loss.detach()), gradients, metrics


def dense() -> Rollouts:
    """Without NaN in padding, which TRL multiplies by 0; one entropy for the mask and the bonus."""
    batch = rollouts(padding=0.0)
    advantage_BT = batch.advantage_BT[:, :1].expand(batch.mask_BT.shape)
    return replace(batch, advantage_BT=advantage_BT, old_entropy_BT=batch.entropy_BT)


def assert_equal(method: Any, trainer: Any, batch: Rollouts, **options: Any) -> dict[str, Any]:
    their_loss, theirs, their_metrics = trl_outcome(trainer, batch, **options)
    for parts in (SPLITS[0], SPLITS[2]):
        loss, ours, metrics = outcome(method, batch, parts)
        assert abs(loss - their_loss) <= TOLERANCE * max(SMALLEST, abs(their_loss))
        for name, gradient in theirs.items():
            error = (ours[name] - gradient).norm() / gradient.norm().clamp(min=1e-12)
            assert error < TOLERANCE, f"{name}: relative error {error:.2e}"
        for key in (*(f"clip_ratio/{key}" for key in CLIP_METRICS), "cispo_clip_ratio"):
            assert (key in metrics) == (key in their_metrics), key
            if key in metrics:
                assert metrics[key] == pytest.approx(their_metrics[key], rel=1e-5, abs=1e-9), key
    return their_metrics | {"loss": their_loss}


GSPO = {"importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.05}
OURS_GSPO = {"clip_low": 0.1, "clip_high": 0.05}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dapo": ("grpo", {"aggregation": "token-mean"}, {"loss_type": "dapo"}),
    "grpo": ("grpo", {"aggregation": "sequence-mean"}, {"loss_type": "grpo"}),
    "dr_grpo": ("grpo", {"aggregation": "constant"}, {"loss_type": "dr_grpo"}),
    "delta": ("grpo", {"dual_clip": 1.35}, {"delta": 1.35}),
    "gspo": ("gspo", OURS_GSPO, {"loss_type": "grpo", **GSPO}),
    "gspo-token-mean": (
        "gspo",
        {"aggregation": "token-mean", **OURS_GSPO},
        {"loss_type": "dapo", **GSPO},
    ),
    "cispo": ("cispo", {"ratio_max": 1.2}, {"loss_type": "cispo", "epsilon_high": 1.2}),
    "sapo": ("sapo", {}, {"loss_type": "sapo"}),
    "sapo-narrow": (
        "sapo",
        {"temperature_pos": 3.0, "temperature_neg": 7.0},
        {"loss_type": "sapo", "sapo_temperature_pos": 3.0, "sapo_temperature_neg": 7.0},
    ),
    "vespo": ("vespo", {}, {"loss_type": "vespo"}),
    "gmpo": ("gmpo", {}, {"gmpo": True, "epsilon_low": 0.4, "epsilon_high": 0.4}),
}
by_case = pytest.mark.parametrize("case", CASES)


def both(case: str, ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[Any, Any]:
    tag, knobs, settings = CASES[case]
    return objective(tag, **{**knobs, **ours}), trl_trainer(**{**settings, **theirs})


@by_case
def test_the_loss_equals_trl(case: str) -> None:
    batch = dense()
    metrics = assert_equal(*both(case, {}, {}), batch)
    if "clip_ratio/region_mean" in metrics:
        assert metrics["clip_ratio/low_mean"] > 0 and metrics["clip_ratio/high_mean"] > 0
    if case == "delta":
        plain = trl_outcome(trl_trainer(), batch)[0]
        assert metrics["loss"] != pytest.approx(plain, rel=1e-3), "the bound must bind"


@by_case
def test_the_kl_term_equals_trl(case: str) -> None:
    metrics = assert_equal(*both(case, {"beta": 0.05, "kl_ratio": False}, {"beta": 0.05}), dense())
    method, _ = both(case, {"beta": 0.05, "kl_ratio": False}, {})
    assert outcome(method, dense())[2]["kl"] == pytest.approx(metrics["kl"], rel=1e-5)


@pytest.mark.parametrize("case", ["dapo", "grpo", "dr_grpo", "delta", "cispo", "sapo"])
def test_the_corrected_kl_term_equals_trl(case: str) -> None:
    """Where TRL's ratio is the token's: with a sequence ratio it is approximate, ours is not."""
    theirs = {"beta": 0.05, "use_bias_correction_kl": True}
    assert_equal(*both(case, {"beta": 0.05}, theirs), dense())


@by_case
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_the_top_entropy_mask_equals_trl(case: str, beta: float) -> None:
    ours = {"top_entropy": 0.3, "beta": beta, "kl_ratio": False}
    assert_equal(*both(case, ours, {"top_entropy_quantile": 0.3, "beta": beta}), dense())


@pytest.mark.parametrize("case", [case for case in CASES if case != "gmpo"])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_the_off_policy_mask_equals_trl(case: str, beta: float) -> None:
    """TRL's GMPO has no such mask."""
    batch = dense()
    ours = {"off_policy_delta": 0.05, "beta": beta, "kl_ratio": False}
    theirs = {"off_policy_mask_threshold": 0.05, "beta": beta}
    method, trainer = both(case, ours, theirs)
    found = assert_equal(method, trainer, batch)
    assert found["loss"] != pytest.approx(trl_outcome(both(case, {}, {"beta": beta})[1], batch)[0])


@by_case
def test_filtering_truncated_answers_equals_trl(case: str) -> None:
    """Loss and gradient; TRL divides its shares per answer by 0 where an answer is filtered."""
    batch = dense()
    method, trainer = both(
        case, {"mask_truncated": True, "beta": 0.05, "kl_ratio": False}, {"beta": 0.05}
    )
    their_loss, theirs, _ = trl_outcome(trainer, batch, drop_truncated=True)
    if case == "gmpo":
        # TRL's geometric mean over no token is 1: its loss keeps -A of a filtered answer, a constant.
        filtered_B = batch.truncated_B
        their_loss += float(batch.advantage_BT[filtered_B, 0].sum()) / len(filtered_B)
    loss, ours, _ = outcome(method, batch)
    assert abs(loss - their_loss) <= TOLERANCE * abs(their_loss)
    assert (ours["logp_BT"] - theirs["logp_BT"]).norm() <= TOLERANCE * theirs["logp_BT"].norm()


@pytest.mark.parametrize("case", [case for case in CASES if case != "gmpo"])
@pytest.mark.parametrize("top", [1.0, 0.3])
def test_the_entropy_bonus_equals_trl(case: str, top: float) -> None:
    """TRL's GMPO has no bonus."""
    theirs = {"entropy_coef": 0.02, "_entropy_bonus_enabled": True, "top_entropy_quantile": top}
    method, trainer = both(case, {"entropy_coef": 0.02, "top_entropy": top}, theirs)
    metrics = assert_equal(method, trainer, dense())
    found = outcome(method, dense(), SPLITS[2])[2]
    assert found["policy_loss"] == pytest.approx(metrics["policy_loss"], rel=1e-5)
    assert found["entropy/trained"] > 0


def test_reinforce_with_a_constant_normaliser_is_trl_s_rloo_at_its_first_step() -> None:
    """TRL's ratio is that of the whole answer: on policy its gradient is -A / N at every token."""
    from trl.trainer.rloo_trainer import RLOOTrainer

    batch = dense()
    mask_BT = batch.mask_BT
    logp_BT = batch.logp_BT.clone().requires_grad_()
    trainer = RLOOTrainer.__new__(RLOOTrainer)
    attributes = {
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator(),
        "aux_loss_enabled": False,
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "_get_per_token_logps_and_entropies": lambda *_, **__: (logp_BT, batch.entropy_BT, None),
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in attributes.items():
        setattr(trainer, name, value)
    ids = torch.zeros(mask_BT.shape, dtype=torch.long)
    trainer._compute_loss(
        None,
        {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1] + 1,
            "completion_ids": ids,
            "completion_mask": mask_BT.long(),
            "advantages": batch.advantage_BT[:, 0],
            "old_logps": (batch.logp_BT * mask_BT).sum(1),
        },
    ).backward()
    method = objective("reinforce", aggregation="constant")
    for parts in (SPLITS[0], SPLITS[2]):
        ours = outcome(method, batch, parts)[1]["logp_BT"] * batch.max_new_tokens
        assert (ours - logp_BT.grad).norm() < TOLERANCE * logp_BT.grad.norm()


def test_the_entropy_controller_equals_trl_step_by_step() -> None:
    """Twelve steps whose entropy falls below the target and rises again: loss and coefficient."""
    knobs = {"entropy_coef": 0.01, "entropy_target": 0.5, "entropy_coef_step": 0.007}
    method = objective("grpo", entropy_coef_max=0.03, **knobs)
    trainer = trl_trainer(
        entropy_coef=0.01,
        use_adaptive_entropy=True,
        _entropy_bonus_enabled=True,
        entropy_target=0.5,
        entropy_coef_delta=0.007,
        entropy_coef_max=0.03,
    )
    dials: dict[str, float] = {}
    seen: dict[str, float] = {}
    applied = set()
    for step in range(12):
        batch = dense()
        # Means around 0.5 times the factor: above the target, below it for six steps, above again.
        factor = 0.5 if 3 <= step < 9 else 1.6
        batch.entropy_BT = batch.entropy_BT * factor
        dials = method.dials(dials, seen, step / 12)
        batch = replace(batch, dials=dials)
        applied.add(dials["entropy_coef_applied"])
        their_loss, theirs, their_metrics = trl_outcome(trainer, batch)
        loss, ours, seen = outcome(method, batch)
        assert abs(loss - their_loss) <= TOLERANCE * abs(their_loss)
        error = (ours["entropy_BT"] - theirs["entropy_BT"]).norm()
        assert error <= TOLERANCE * theirs["entropy_BT"].norm()
        # TRL reports the coefficient of the next step.
        following = method.dials(dials, seen, step / 12)["entropy_coef"]
        assert following == pytest.approx(their_metrics["entropy_coef"])
    # It starts at 0.01, falls twice to 0 while nothing is wrong, then climbs to its ceiling.
    assert sorted(applied) == pytest.approx([0.0, 0.007, 0.014, 0.021, 0.028, 0.03])
