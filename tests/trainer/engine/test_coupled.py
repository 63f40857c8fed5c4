"""Losses that couple the sequences of a batch have the gradient of the whole batch for any split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
import torch

from tests.trainer.engine.support import tiny_spec
from tests.trainer.engine.written import gradient, make_learner
from trainer.engine.batches import Labelled
from trainer.engine.coupled import Part, losses_of
from trainer.problems import SpecError
from trainer.registry import Loss, Objective, family

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.engine.session import Session

LENGTHS = (6, 1, 4, 2, 5, 3, 6)


class Spread(Objective):
    """Variance of the answers' scores: a loss that no sum over answers gives."""

    type: Literal["spread"] = "spread"
    learns_from: ClassVar = "labels"
    couples: ClassVar[bool] = True

    def loss(self, batch: Labelled) -> Loss:
        score_B = torch.where(batch.mask_BT, batch.logp_BT, 0.0).sum(-1)
        value = ((score_B - score_B.mean()) ** 2).mean()
        return Loss(value, {"score": (float(score_B.detach().sum()), len(score_B))})


class Divided:
    """Seven answers whose log-probabilities are a linear function of a weight."""

    with_gradient = ("logp_BT",)

    def __init__(self, split: Sequence[Sequence[int]]) -> None:
        self.size = len(LENGTHS)
        self.parts = [Part(list(members), []) for members in split]
        self.weight = torch.linspace(-1, 1, 6, dtype=torch.float64).requires_grad_()
        draw = torch.Generator().manual_seed(0)
        self.features = torch.randn(7, 6, 6, generator=draw, dtype=torch.float64)
        self.mask = torch.arange(6)[None, :] < torch.tensor(LENGTHS)[:, None]
        self.forwards = 0

    def batch(self, members: Sequence[int]) -> Labelled:
        index = list(members)
        good = torch.zeros(len(index), dtype=torch.bool)
        return Labelled(self.mask[index], good, torch.full((len(index),), 1 / self.size))

    def forward(self, part: Part) -> dict[str, torch.Tensor]:
        self.forwards += 1
        logp_BT = torch.tanh(self.features[part.members] @ self.weight)
        return {"logp_BT": torch.where(self.mask[part.members], logp_BT, 0.0)}


SPLITS = [
    [range(7)],
    [[0, 1, 2, 3], [4, 5, 6]],
    [[6, 0], [3], [5, 1, 2], [4]],
    [[i] for i in (3, 1, 6, 0, 2, 5, 4)],
]


def run(divided: Divided) -> tuple[float, torch.Tensor, float]:
    total, score = 0.0, 0.0
    for loss in losses_of(Spread(), divided):
        if loss.value.requires_grad:
            loss.value.backward()
        total += float(loss.value.detach())
        score += loss.means.get("score", (0.0, 0.0))[0]
    assert divided.weight.grad is not None
    return total, divided.weight.grad, score


@pytest.mark.parametrize("split", SPLITS[1:], ids=str)
def test_the_gradient_is_that_of_the_whole_batch(split: Any) -> None:
    whole = run(Divided(SPLITS[0]))
    total, gradient_, score = run(Divided(split))
    assert total == pytest.approx(whole[0], rel=1e-12)
    assert score == pytest.approx(whole[2], rel=1e-12)
    assert float((gradient_ - whole[1]).norm() / whole[1].norm()) < 1e-12


def test_one_micro_batch_takes_one_pass() -> None:
    divided = Divided(SPLITS[0])
    run(divided)
    assert divided.forwards == 1


def test_without_gradient_one_pass_is_enough_and_the_value_the_same() -> None:
    divided = Divided(SPLITS[2])
    with torch.no_grad():
        (loss,) = losses_of(Spread(), divided)
    assert divided.forwards == 4 and not loss.value.requires_grad
    assert float(loss.value) == pytest.approx(run(Divided(SPLITS[0]))[0], rel=1e-12)


def test_a_loss_without_gradient_asks_for_no_second_pass() -> None:
    class Constant(Spread):
        def loss(self, batch: Labelled) -> Loss:
            return Loss(torch.zeros(()))

    divided = Divided(SPLITS[2])
    assert [float(loss.value) for loss in losses_of(Constant(), divided)] == [0.0]
    assert divided.forwards == 4


@pytest.mark.parametrize("paired", ["true", "false"])
def test_aot_has_the_same_gradient_for_any_split(
    session: Session, tmp_path: Path, paired: str
) -> None:
    method = ["objective.type=aot", f"objective.paired={paired}"]
    whole = gradient(*make_learner(session, tmp_path, *method))
    for budget in (1, 45, 90):
        found = gradient(
            *make_learner(session, tmp_path, *method, f"batch.tokens_per_microbatch={budget}")
        )
        assert found[0] == pytest.approx(whole[0], abs=1e-6)
        assert float((found[1] - whole[1]).norm() / whole[1].norm()) < 2e-6
        assert found[2] == pytest.approx(whole[2], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("tag", ["sft", "grpo", "bradley-terry"])
def test_where_nobody_takes_two_passes_a_coupled_loss_is_refused(
    monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    monkeypatch.setattr(family("objectives")[tag], "couples", True)
    with pytest.raises(SpecError) as refused:
        tiny_spec(f"objective.type={tag}")
    assert f"objective.type: {tag} couples" in str(refused.value)


def test_treating_aot_as_a_sum_would_give_another_gradient(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gradient(*make_learner(session, tmp_path, "objective.type=aot"))
    monkeypatch.setattr(family("objectives")["aot"], "couples", False)
    summed = gradient(
        *make_learner(session, tmp_path, "objective.type=aot", "batch.tokens_per_microbatch=1")
    )
    assert float((summed[1] - whole[1]).norm() / whole[1].norm()) > 1e-3
