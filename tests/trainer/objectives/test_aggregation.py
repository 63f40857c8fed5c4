"""Token weights: the papers' normalisers, several prompts, and the top-entropy mask."""

from __future__ import annotations

import pytest
import torch

from trainer.objectives._aggregation import aggregation_weights, most_uncertain

LENGTHS, GROUPS = (3, 1, 2), (7, 7, 4)
MASK = torch.arange(4)[None, :] < torch.tensor(LENGTHS)[:, None]


@pytest.mark.parametrize(
    ("aggregation", "wanted"),
    [
        ("token-mean", [1 / 6, 1 / 6, 1 / 6]),
        ("sequence-mean", [1 / 9, 1 / 3, 1 / 6]),
        ("constant", [1 / 12, 1 / 12, 1 / 12]),
        ("prompt-mean", [1 / 8, 1 / 8, 1 / 4]),
    ],
)
def test_weights_are_those_of_the_papers(aggregation: str, wanted: list[float]) -> None:
    weight_NT = aggregation_weights(MASK, torch.tensor(GROUPS), aggregation, 4)
    assert torch.allclose(weight_NT, torch.where(MASK, torch.tensor(wanted)[:, None], 0.0))
    if aggregation != "constant":
        assert float(weight_NT.sum()) == pytest.approx(1.0)


def test_a_prompt_without_a_trained_token_still_counts_as_a_prompt() -> None:
    mask = MASK.clone()
    mask[2] = False
    weight_NT = aggregation_weights(mask, torch.tensor(GROUPS), "prompt-mean", 4)
    assert float(weight_NT.sum()) == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_the_most_uncertain_tokens_are_those_above_the_quantile(share: float) -> None:
    torch.manual_seed(2)
    mask = torch.rand(5, 8) > 0.3
    entropy = torch.where(mask, torch.rand(5, 8), torch.nan)
    threshold = torch.quantile(entropy[mask], 1 - share)
    found = most_uncertain(entropy, mask, share)
    assert torch.equal(found, mask & (entropy >= threshold))
    assert int(found.sum()) == pytest.approx(share * int(mask.sum()), abs=1)


def test_all_of_a_share_of_1_and_none_of_nothing() -> None:
    nothing = torch.zeros_like(MASK)
    assert torch.equal(most_uncertain(torch.rand(3, 4), MASK, 1.0), MASK)
    assert torch.equal(most_uncertain(torch.rand(3, 4), nothing, 0.2), nothing)
