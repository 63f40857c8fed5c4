"""Curricula: every row once an epoch, the same order for the same seed."""

from __future__ import annotations

import pytest

from trainer.registry import family

CURRICULA = family("curricula")


@pytest.mark.parametrize("tag", sorted(CURRICULA))
def test_it_visits_every_row_once_and_is_a_pure_function(tag: str) -> None:
    curriculum = CURRICULA[tag](type=tag)
    for epoch in range(3):
        order = list(curriculum.order(97, epoch, seed=5))
        assert sorted(order) == list(range(97))
        assert order == list(curriculum.order(97, epoch, seed=5))


def test_shuffled_differs_between_epochs_and_seeds() -> None:
    shuffled = CURRICULA["shuffled"](type="shuffled")
    orders = {tuple(shuffled.order(50, epoch, seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9
