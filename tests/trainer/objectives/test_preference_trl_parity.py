"""Losses on pairs and labels equal TRL's own code on the same tensors, in value and gradient (< 1e-5).

TRL's `_compute_loss` of DPO and KTO, and the losses of its CPO and ORPO trainers, run unchanged on trainer
objects that were never constructed.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.trainer.objectives.pairs_support import make
from trainer.engine.batches import Labelled, Pairs

trl = pytest.importorskip("trl", reason="TRL is the numeric reference: pip install trl==1.16.0")

TOLERANCE = 1e-5
LENGTHS = torch.tensor([7, 3, 1, 5, 7, 2])


def accelerator() -> SimpleNamespace:
    return SimpleNamespace(
        device=torch.device("cpu"),
        gather=lambda tensor: tensor,
        gather_for_metrics=lambda tensor: tensor,
    )


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    error = (ours - theirs).norm() / theirs.norm().clamp(min=1e-12)
    assert error < TOLERANCE, f"relative error {error:.2e}"


class Plain(torch.nn.Module):
    """A model that is neither PEFT nor checkpoints gradients: TRL asks for no more."""

    is_gradient_checkpointing = False


class Data:
    """Ragged log-probabilities of chosen (0) and rejected (1) answers, and of the reference."""

    def __init__(self, seed: int = 5) -> None:
        torch.manual_seed(seed)
        chosen = torch.arange(7)[None, :] < LENGTHS[:, None]
        self.mask = torch.stack([chosen, chosen.roll(2, 0)])
        self.logp = torch.where(self.mask, -3 * torch.rand(2, 6, 7), 0.0)
        self.ref = torch.where(self.mask, self.logp + 0.5 * torch.randn(2, 6, 7), 0.0)
        self.collision = torch.where(self.mask, -1.5 * torch.rand(2, 6, 7), 0.0)


def theirs_dpo(data: Data, **settings: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """TRL's loss, its gradient and its metrics."""
    from trl.trainer.dpo_trainer import DPOTrainer

    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = accelerator()
    trainer.args = SimpleNamespace(
        discopop_tau=settings.pop("discopop_tau", None), gradient_checkpointing_kwargs=None,
        gradient_checkpointing=False,
    )  # fmt: skip
    everything = {
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": False,
        "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": None,
        "loss_types": ["sigmoid"],
        "loss_weights": [1.0],
        "beta": 0.1,
        "use_weighting": False,
        "label_smoothing": 0.0,
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "_metrics": {"train": defaultdict(list)},
    } | settings
    for name, value in everything.items():
        setattr(trainer, name, value)
    leaf = data.logp.clone().requires_grad_()

    def model_of(values: torch.Tensor) -> Any:
        def model(**_: Any) -> SimpleNamespace:
            logp = (values * data.mask).flatten(0, 1)
            return SimpleNamespace(
                log_probs=logp,
                entropy=torch.zeros_like(logp),
                mean_logits=torch.zeros_like(logp),
                is_top1=torch.zeros_like(logp, dtype=torch.bool),
                log_sum_sq_probs=data.collision.flatten(0, 1),
            )

        return model

    trainer.ref_model = model_of(data.ref)
    model = model_of(leaf)
    trainer.model = Plain()
    flat_mask = data.mask.flatten(0, 1).long()
    # TRL drops the first position: a token is predicted by the one before it.
    mask = torch.cat([torch.zeros_like(flat_mask[:, :1]), flat_mask], dim=1)
    inputs = {
        "input_ids": torch.zeros_like(mask),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask,
    }
    loss = trainer._compute_loss(model, inputs, return_outputs=False)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad, trainer._metrics["train"]


def ours_pairs(
    data: Data, objective: Any, **dials: float
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    leaf = torch.where(data.mask, data.logp, torch.nan).requires_grad_()
    chosen, rejected = data.mask
    weights = (
        objective.score_weights(chosen, rejected),
        objective.score_weights(rejected, chosen),
    )
    batch = Pairs(
        chosen,
        rejected,
        torch.full((6,), 1 / 6),
        chosen_score_weight_BT=weights[0],
        rejected_score_weight_BT=weights[1],
        chosen_logp_BT=leaf[0],
        rejected_logp_BT=leaf[1],
        ref_chosen_score_B=(weights[0] * data.ref[0]).sum(-1),
        ref_rejected_score_B=(weights[1] * data.ref[1]).sum(-1),
        chosen_collision_BT=data.collision[0],
        rejected_collision_BT=data.collision[1],
        dials=dials,
    )
    batch.nll_weight_BT = objective.token_weights(batch)
    loss = objective.loss(batch)
    loss.value.backward()
    assert leaf.grad is not None
    return loss.value.detach(), leaf.grad, loss.means


NLL = {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dpo", {}, {}),
    ("dpo", {"sft_weight": 0.7}, NLL),
    ("robust-dpo", {"label_smoothing": 0.2}, {"loss_types": ["robust"], "label_smoothing": 0.2}),
    ("hinge", {}, {"loss_types": ["hinge"]}),
    ("ipo", {}, {"loss_types": ["ipo"]}),
    ("ipo", {"sft_weight": 0.7}, {**NLL, "loss_types": ["ipo", "sft"]}),
    ("exo", {"label_smoothing": 0.1}, {"loss_types": ["exo_pair"], "label_smoothing": 0.1}),
    ("nca", {}, {"loss_types": ["nca_pair"]}),
    ("bco", {"shift_rate": 0}, {"loss_types": ["bco_pair"]}),
    ("sppo", {}, {"loss_types": ["sppo_hard"]}),
    ("aot", {"label_smoothing": 0.1}, {"loss_types": ["aot"], "label_smoothing": 0.1}),
    (
        "aot",
        {"paired": False, "label_smoothing": 0.1},
        {"loss_types": ["aot_unpaired"], "label_smoothing": 0.1},
    ),
    ("apo-zero", {}, {"loss_types": ["apo_zero"]}),
    ("apo-down", {}, {"loss_types": ["apo_down"]}),
    ("discopop", {"tau": 0.2}, {"loss_types": ["discopop"], "discopop_tau": 0.2}),
    ("dpo-norm", {"sft_weight": 0.7}, {**NLL, "loss_types": ["sigmoid_norm", "sft"]}),
    ("f-dpo", {"divergence": "forward-kl"}, {"f_divergence_type": "forward_kl"}),
    ("f-dpo", {"divergence": "js"}, {"f_divergence_type": "js_divergence"}),
    (
        "f-dpo",
        {"divergence": "alpha", "alpha": 0.3},
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
    ),
    ("wpo", {}, {"use_weighting": True}),
    ("ld-dpo", {"alpha": 0.25}, {"ld_alpha": 0.25}),
]


@pytest.mark.parametrize("beta", [0.1, 1.5])
@pytest.mark.parametrize(
    ("tag", "knobs", "settings"), CASES, ids=[f"{tag} {knobs}" for tag, knobs, _ in CASES]
)
def test_pairs_equal_trl(
    tag: str, knobs: dict[str, Any], settings: dict[str, Any], beta: float
) -> None:
    data = Data()
    their_loss, their_gradient, their_metrics = theirs_dpo(data, beta=beta, **settings)
    ours, gradient, means = ours_pairs(data, make(tag, beta=beta, **knobs))
    assert_close(ours, their_loss)
    assert_close(gradient, their_gradient)
    # TRL reports rewards from sums whatever the loss compares; ours are those that the loss compares.
    averaged = tag in ("ipo", "dpo-norm")
    names = ["logps/chosen", "logps/rejected"]
    if not averaged:
        names += [f"rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")]
    if tag == "ld-dpo":
        # TRL's weigh the tail; ours are the answers' log-probabilities.
        names = names[2:]
    for name in names:
        total, count = means[name]
        assert total / count == pytest.approx(their_metrics[name][0], rel=1e-5), name


@pytest.mark.parametrize(
    ("tag", "knobs", "settings"),
    [
        ("cpo", {"beta": 0.3}, {"beta": 0.3, "loss_type": "sigmoid"}),
        (
            "simpo",
            {"beta": 2.0, "gamma": 0.9},
            {"beta": 2.0, "loss_type": "simpo", "simpo_gamma": 0.9},
        ),
        (
            "cdpo",
            {"beta": 0.3, "label_smoothing": 0.2},
            {"beta": 0.3, "loss_type": "sigmoid", "label_smoothing": 0.2},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_losses_of_the_cpo_trainer(
    tag: str, knobs: dict[str, Any], settings: dict[str, Any]
) -> None:
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

    data = Data()
    trainer = CPOTrainer.__new__(CPOTrainer)
    trainer.accelerator = accelerator()
    for name, value in ({"alpha": 0.0, "label_smoothing": 0.0} | settings).items():
        setattr(trainer, name, value)
    leaf = data.logp.clone().requires_grad_()
    logps = (leaf * data.mask).sum(-1)
    if tag == "simpo":
        logps = logps / data.mask.sum(-1)
    if tag == "cdpo":
        # TRL's DPO ignores label smoothing and its CPO has no reference: give CPO the log ratios.
        logps = logps - data.ref.sum(-1)
    losses, chosen, rejected = trainer.cpo_loss(logps[0], logps[1])
    nll = -leaf[0][data.mask[0]].mean()
    their_loss = losses.mean() + (nll if tag == "cpo" else 0.0)
    their_loss.backward()

    ours, gradient, means = ours_pairs(data, make(tag, **knobs))
    assert leaf.grad is not None
    assert_close(ours, their_loss.detach())
    assert_close(gradient, leaf.grad)
    for name, wanted in (("chosen", chosen), ("rejected", rejected)):
        total, count = means[f"rewards/{name}"]
        assert total / count == pytest.approx(float(wanted.mean()), rel=1e-5)


def test_orpo_equals_trl() -> None:
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    data = Data()
    trainer = ORPOTrainer.__new__(ORPOTrainer)
    trainer.accelerator = accelerator()
    trainer.beta = 0.3
    leaf = data.logp.clone().requires_grad_()
    logps = (leaf * data.mask).sum(-1) / data.mask.sum(-1)
    losses, chosen, _, _, log_odds = trainer.odds_ratio_loss(logps[0], logps[1])
    # TRL's NLL counts the prompt too; here is none.
    their_loss = -leaf[0][data.mask[0]].mean() - losses.mean()
    their_loss.backward()

    ours, gradient, means = ours_pairs(data, make("orpo", beta=0.3))
    assert leaf.grad is not None
    assert_close(ours, their_loss.detach())
    assert_close(gradient, leaf.grad)
    for name, wanted in (("rewards/chosen", chosen.mean()), ("log_odds_chosen", log_odds)):
        total, count = means[name]
        assert total / count == pytest.approx(float(wanted.detach()), rel=1e-5)


@pytest.mark.parametrize("drift", [0.3, -0.3], ids=["kl above 0", "kl below 0"])
def test_kto_equals_trl(drift: float) -> None:
    from trl.trainer.kto_trainer import KTOTrainer

    data = Data()
    mask, other_mask = data.mask
    ref, other = data.ref[0], data.logp[1]
    ref_other = torch.where(other_mask, other - drift, 0.0)
    good = torch.tensor([True, False, True, True, False, False])
    leaf = data.logp[0].clone().requires_grad_()

    def model_of(answers: torch.Tensor, others: torch.Tensor) -> Any:
        def model(*, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
            # The mismatched answers are told apart by their tokens.
            values = others if bool((input_ids == 1).any()) else answers
            return SimpleNamespace(
                log_probs=values,
                entropy=torch.zeros_like(values),
                mean_logits=torch.zeros_like(values),
            )

        return model

    trainer = KTOTrainer.__new__(KTOTrainer)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = accelerator()
    trainer.args = SimpleNamespace(gradient_checkpointing=False, gradient_checkpointing_kwargs=None)
    trainer.ref_model = model_of(ref, ref_other)
    model = model_of(leaf * mask, other)
    trainer.model = Plain()
    settings = {
        "aux_loss_enabled": False,
        "calculate_KL": True,
        "precompute_ref_logps": False,
        "loss_type": "kto",
        "beta": 0.4,
        "desirable_weight": 1.3,
        "undesirable_weight": 0.7,
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in settings.items():
        setattr(trainer, name, value)

    def shifted(mask: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(mask[:, :1]), mask], dim=1).long()

    ids = torch.zeros(6, 8, dtype=torch.long)
    their_loss = trainer._compute_loss(
        model,
        {
            "input_ids": ids,
            "attention_mask": ids + 1,
            "completion_mask": shifted(mask),
            "KL_input_ids": ids + 1,
            "KL_attention_mask": ids + 1,
            "KL_completion_mask": shifted(other_mask),
            "label": good,
        },
        return_outputs=False,
    )
    their_loss.backward()

    ours = torch.where(mask, data.logp[0], torch.nan).requires_grad_()
    batch = Labelled(
        mask,
        good,
        torch.full((6,), 1 / 6),
        logp_BT=ours,
        ref_score_B=ref.sum(-1),
        good_N=3.0,
        bad_N=3.0,
        other_score_N=other.sum(-1),
        ref_other_score_N=ref_other.sum(-1),
    )
    kto = make("kto", beta=0.4, desirable_weight=1.3, undesirable_weight=0.7)
    loss = kto.loss(batch)
    loss.value.backward()
    assert ours.grad is not None and leaf.grad is not None
    assert_close(loss.value.detach(), their_loss.detach())
    assert_close(ours.grad, leaf.grad)
    metrics = trainer._metrics["train"]
    assert (metrics["kl"][0] > 0) == (drift > 0)
    for name in ("kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"):
        total, count = loss.means[name]
        assert total / count == pytest.approx(metrics[name][0], rel=1e-5), name
