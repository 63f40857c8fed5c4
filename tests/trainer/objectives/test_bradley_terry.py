"""Bradley-Terry: numpy, TRL, margins and centring, and micro-batches that only sum."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainer.engine.batches import RankedScores
from trainer.registry import family

CHOSEN, REJECTED = [1.5, -0.2, 0.7, 3.0], [0.5, 0.4, 0.7, -2.0]
MARGINS = [0.0, 1.0, 2.5, 3.0]
KNOBS: list[dict[str, Any]] = [
    {},
    {"margin": "subtract"},
    {"margin": "scale"},
    {"center_rewards": 0.1},
    {"margin": "subtract", "center_rewards": 0.01},
]


def scores(
    chosen: Any = CHOSEN, rejected: Any = REJECTED, margins: Any = MARGINS, of: int = 0
) -> RankedScores:
    """A batch whose scores are leaves; `of` pairs in the whole optimizer batch."""
    count = len(chosen)
    return RankedScores(
        torch.tensor(chosen, dtype=torch.float64, requires_grad=True),
        torch.tensor(rejected, dtype=torch.float64, requires_grad=True),
        torch.full((count,), 1 / (of or count), dtype=torch.float64),
        torch.tensor(margins, dtype=torch.float64),
    )


def method(**knobs: Any) -> Any:
    return family("objectives")["bradley-terry"](type="bradley-terry", **knobs)


def golden(margin: str = "none", center_rewards: float = 0.0) -> float:
    w, l, m = np.array(CHOSEN), np.array(REJECTED), np.array(MARGINS)  # noqa: E741
    gap = w - l - (m if margin == "subtract" else 0)
    loss = np.log1p(np.exp(-gap)) * (m if margin == "scale" else 1)
    return float((loss + center_rewards * (w + l) ** 2).mean())


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_it_equals_numpy(knobs: dict[str, Any]) -> None:
    loss = method(**knobs).loss(scores())
    assert loss.value.item() == pytest.approx(golden(**knobs), rel=1e-12)


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_its_gradient_equals_a_difference_quotient(knobs: dict[str, Any]) -> None:
    batch = scores()
    method(**knobs).loss(batch).value.backward()
    assert batch.chosen_score_B.grad is not None
    for index in range(len(CHOSEN)):
        shifted = []
        for step in (1e-5, -1e-5):
            moved = list(CHOSEN)
            moved[index] += step
            shifted.append(method(**knobs).loss(scores(moved)).value.item())
        quotient = (shifted[0] - shifted[1]) / 2e-5
        assert float(batch.chosen_score_B.grad[index]) == pytest.approx(
            quotient, rel=1e-5, abs=1e-9
        )


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_micro_batches_only_sum(knobs: dict[str, Any], cut: int) -> None:
    whole = scores()
    loss = method(**knobs).loss(whole)
    loss.value.backward()
    parts = [
        scores(CHOSEN[:cut], REJECTED[:cut], MARGINS[:cut], of=4),
        scores(CHOSEN[cut:], REJECTED[cut:], MARGINS[cut:], of=4),
    ]
    losses = [method(**knobs).loss(part) for part in parts]
    for part in losses:
        part.value.backward()
    assert sum(part.value.item() for part in losses) == pytest.approx(loss.value.item(), rel=1e-12)
    for side in ("chosen_score_B", "rejected_score_B"):
        found = torch.cat([getattr(part, side).grad for part in parts])
        assert torch.allclose(found, getattr(whole, side).grad, rtol=1e-12, atol=0)
    for key, (total, count) in loss.means.items():
        sums = [part.means[key] for part in losses]
        assert sum(s for s, _ in sums) == pytest.approx(total)
        assert sum(n for _, n in sums) == count


def test_its_metrics_are_counted_by_hand() -> None:
    loss = method().loss(scores())
    mean = {key: total / count for key, (total, count) in loss.means.items()}
    assert mean["accuracy"] == pytest.approx((1 + 0 + 0.5 + 1) / 4), "a tie counts half"
    assert mean["margin"] == pytest.approx((1.0 - 0.6 + 0.0 + 5.0) / 4)
    assert mean["mean_reward"] == pytest.approx(4.6 / 8)
    assert mean["rewards/chosen"] == pytest.approx(5.0 / 4)
    assert mean["rewards/rejected"] == pytest.approx(-0.4 / 4)
    assert (loss.maxima, loss.minima) == ({"max_reward": 3.0}, {"min_reward": -2.0})


def test_it_asks_for_margins_only_where_they_do_something() -> None:
    assert "margin" not in method().uses
    assert "margin" in method(margin="scale").uses
    batch = scores(margins=[float("nan")] * 4)
    assert np.isfinite(method().loss(batch).value.item())


@pytest.mark.parametrize("knobs", [KNOBS[0], KNOBS[1], KNOBS[3], KNOBS[4]], ids=str)
def test_it_equals_trl(knobs: dict[str, Any]) -> None:
    pytest.importorskip("trl", reason="TRL is the numeric reference: pip install trl==1.16.0")
    from trl.trainer.reward_trainer import RewardTrainer

    torch.manual_seed(8)
    start, margin_B = 2 * torch.randn(2, 6), 2 * torch.rand(6)
    theirs = start.clone().requires_grad_()
    trainer = RewardTrainer.__new__(RewardTrainer)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = SimpleNamespace(gather=lambda t: t, gather_for_metrics=lambda t: t)
    coefficient = knobs.get("center_rewards")
    trainer.args = SimpleNamespace(center_rewards_coefficient=coefficient)
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    trainer._metrics = {"train": defaultdict(list)}
    inputs = {"attention_mask": torch.ones(12, 3)}
    if "margin" in knobs:
        inputs["margin"] = margin_B
    their_loss = trainer.compute_loss(
        lambda **_: SimpleNamespace(logits=theirs.reshape(12, 1)), inputs
    )
    their_loss.backward()

    ours = start.clone().requires_grad_()
    batch = RankedScores(ours[0], ours[1], torch.full((6,), 1 / 6), margin_B)
    loss = method(**knobs).loss(batch)
    loss.value.backward()
    assert loss.value.item() == pytest.approx(their_loss.item(), rel=1e-5)
    assert ours.grad is not None and theirs.grad is not None
    assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 1e-5
    found = {key: total / count for key, (total, count) in loss.means.items()}
    found |= loss.maxima | loss.minima
    for key in ("accuracy", "margin", "mean_reward", "min_reward", "max_reward"):
        assert found[key] == pytest.approx(trainer._metrics["train"][key][0], rel=1e-5), key
