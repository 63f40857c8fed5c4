"""Rating regression: numpy, torch's own loss, ratings nobody gave, and micro-batches that only sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.engine.batches import RatedScores
from trainer.registry import family

NAN = float("nan")
SCORES = [[0.5, 1.0], [2.0, -1.0], [0.0, 3.0]]
RATINGS = [[1.0, NAN], [4.0, 2.0], [NAN, NAN]]
METHOD = family("objectives")["rating-regression"](type="rating-regression")  # type: ignore[call-arg]


def batch(rows: slice = slice(None), ratings: list[list[float]] = RATINGS) -> RatedScores:
    rating_NK = torch.tensor(ratings, dtype=torch.float64)
    known_NK = ~rating_NK.isnan()
    return RatedScores(
        torch.tensor(SCORES, dtype=torch.float64)[rows].requires_grad_(),
        rating_NK[rows],
        (known_NK.double() / known_NK.sum())[rows],
    )


def test_it_equals_numpy_over_the_known_ratings() -> None:
    error = np.array(SCORES) - np.array(RATINGS)
    assert METHOD.loss(batch()).value.item() == pytest.approx(np.nanmean(error**2), rel=1e-12)  # type: ignore[attr-defined]


def test_without_gaps_it_is_the_mean_squared_error_of_torch() -> None:
    ratings = [[1.0, 2.0], [4.0, 2.0], [0.0, 5.0]]
    ours = batch(ratings=ratings)
    METHOD.loss(ours).value.backward()  # type: ignore[attr-defined]
    theirs = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.mse_loss(theirs, torch.tensor(ratings, dtype=torch.float64)).backward()
    assert ours.score_BK.grad is not None and theirs.grad is not None
    assert torch.allclose(ours.score_BK.grad, theirs.grad, rtol=1e-12)


def test_an_unknown_rating_has_no_gradient() -> None:
    found = batch()
    METHOD.loss(found).value.backward()  # type: ignore[attr-defined]
    wanted = torch.tensor([[2 * -0.5, 0], [2 * -2.0, 2 * -3.0], [0, 0]]) / 3
    assert found.score_BK.grad is not None
    assert torch.allclose(found.score_BK.grad, wanted.double())


@pytest.mark.parametrize("cut", [1, 2])
def test_micro_batches_only_sum(cut: int) -> None:
    whole, parts = batch(), [batch(slice(0, cut)), batch(slice(cut, None))]
    losses = [METHOD.loss(part) for part in (whole, *parts)]  # type: ignore[attr-defined]
    for loss in losses:
        loss.value.backward()
    assert (losses[1].value + losses[2].value).item() == pytest.approx(losses[0].value.item())
    grads = [part.score_BK.grad for part in parts if part.score_BK.grad is not None]
    assert whole.score_BK.grad is not None
    assert torch.allclose(torch.cat(grads), whole.score_BK.grad)
    assert (
        max(loss.maxima["max_reward"] for loss in losses[1:])
        == 3.0
        == losses[0].maxima["max_reward"]
    )
    assert min(loss.minima["min_reward"] for loss in losses[1:]) == -1.0
    total, count = losses[0].means["mean_reward"]
    assert total / count == pytest.approx(np.mean(SCORES))
