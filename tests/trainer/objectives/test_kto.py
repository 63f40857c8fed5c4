"""KTO: labelled answers around a reference point that the whole optimizer batch agrees on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.objectives.pairs_support import make, mean_of, padded, sigmoid
from trainer.engine.batches import Labelled

GOOD = [True, False, True, True, False]
LENGTHS = (7, 3, 1, 5, 4)


def answers(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Log-probabilities of the tokens of five answers, and the reference's scores."""
    draw = np.random.default_rng(seed)
    tokens = [-3 * draw.random(n) for n in LENGTHS]
    return tokens, np.array([x.sum() for x in tokens]) + draw.standard_normal(5)


def batch(
    tokens: list[np.ndarray], ref: np.ndarray, other: float = 0.0, good: list[bool] | None = None
) -> Labelled:
    logp_BT = padded(tokens)
    good_B = torch.tensor(good or GOOD)
    return Labelled(
        ~logp_BT.isnan(),
        good_B,
        torch.full((len(tokens),), 1 / len(tokens)),
        logp_BT=logp_BT.requires_grad_(),
        ref_score_B=torch.tensor(ref, dtype=torch.float32),
        good_N=float(good_B.sum()),
        bad_N=float((~good_B).sum()),
        other_score_N=torch.tensor([other - 1.0, other + 1.0]),
        ref_other_score_N=torch.zeros(2),
    )


def formula(tokens: list[np.ndarray], ref: np.ndarray, z0: float) -> float:
    gain = np.array([x.sum() for x in tokens]) - ref
    good = 1.3 * (1 - sigmoid(0.4 * (gain - z0)))
    bad = 0.7 * (1 - sigmoid(0.4 * (z0 - gain)))
    return float(np.mean(np.where(GOOD, good, bad)))


@pytest.mark.parametrize(("other", "z0"), [(0.6, 0.6), (-0.6, 0.0)], ids=["above 0", "below 0"])
def test_it_equals_numpy(other: float, z0: float) -> None:
    tokens, ref = answers(1)
    kto = make("kto", beta=0.4, desirable_weight=1.3, undesirable_weight=0.7)
    given = batch(tokens, ref, other)
    loss = kto.loss(given)
    (gradient,) = torch.autograd.grad(loss.value, given.logp_BT)
    np.testing.assert_allclose(float(loss.value.detach()), formula(tokens, ref, z0), rtol=2e-6)
    for row, answer in enumerate(tokens):
        above, below = answer.copy(), answer.copy()
        above[0] += 1e-5
        below[0] -= 1e-5
        around = [[*tokens[:row], x, *tokens[row + 1 :]] for x in (above, below)]
        wanted = (formula(around[0], ref, z0) - formula(around[1], ref, z0)) / 2e-5
        np.testing.assert_allclose(gradient[row, : len(answer)], wanted, rtol=2e-4)
        assert bool((gradient[row, len(answer) :] == 0).all())
    assert mean_of(loss, "kl") == pytest.approx(z0)


def test_its_metrics_equal_numpy() -> None:
    tokens, ref = answers(2)
    loss = make("kto", beta=0.4).loss(batch(tokens, ref, 0.3))
    total = np.array([x.sum() for x in tokens])
    gain, good = total - ref, np.array(GOOD)
    for name, kind in (("chosen", good), ("rejected", ~good)):
        assert mean_of(loss, f"rewards/{name}") == pytest.approx(0.4 * gain[kind].mean(), rel=1e-5)
        assert mean_of(loss, f"logps/{name}") == pytest.approx(total[kind].mean(), rel=1e-5)
    margin = 0.4 * (gain[good].mean() - gain[~good].mean())
    assert mean_of(loss, "rewards/margins") == pytest.approx(margin, rel=1e-5)
    assert mean_of(loss, "label_accuracy") == pytest.approx(np.mean((gain > 0.3) == good))


def test_the_first_loss_is_half_the_weights_and_a_tie_counts_half() -> None:
    tokens, _ = answers(3)
    kto = make("kto", desirable_weight=1.2, undesirable_weight=0.4)
    given = batch(tokens, np.zeros(5), other=0.0)
    given.ref_score_B = given.logp_BT.detach().nan_to_num(0.0).sum(-1)
    loss = kto.loss(given)
    assert float(loss.value.detach()) == pytest.approx((3 * 1.2 + 2 * 0.4) / 5 / 2, rel=1e-5)
    assert mean_of(loss, "label_accuracy") == 0.5


def test_a_batch_of_one_kind_has_no_margin() -> None:
    tokens, ref = answers(4)
    loss = make("kto").loss(batch(tokens, ref, good=[True] * 5))
    assert "rewards/margins" not in loss.means
    assert loss.means["rewards/rejected"] == (0.0, 0.0)
    assert bool(loss.value.isfinite())


def test_without_other_rows_the_reference_point_is_0() -> None:
    tokens, ref = answers(5)
    given = batch(tokens, ref)
    given.other_score_N = given.ref_other_score_N = None
    loss = make("kto", beta=0.4, desirable_weight=1.3, undesirable_weight=0.7).loss(given)
    np.testing.assert_allclose(float(loss.value.detach()), formula(tokens, ref, 0.0), rtol=2e-6)
