"""Help texts of metrics."""

from __future__ import annotations

import pytest

from trainer.metrics import help_of


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("eval/pair_accuracy", "Held-out pair accuracy"),
        ("eval/gsm8k/pair_accuracy", "Held-out pair accuracy (gsm8k)"),
        ("eval/a/b/loss", "Held-out loss (a/b)"),
        ("eval/test/rewards/format/mean", "Held-out reward part format (test)"),
        ("eval/test/ratings/helpful/spearman", "Held-out rank correlation, helpful (test)"),
        ("warmup/ratings/helpful/mse", "Warm-up: Squared error, helpful"),
        ("eval/test/unheard_of", "eval/test/unheard_of"),
    ],
)
def test_every_key_finds_its_help(key: str, title: str) -> None:
    assert help_of(key).title == title
