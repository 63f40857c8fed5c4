"""LD-DPO: the longer answer's tail counts less."""

from __future__ import annotations

import numpy as np
import torch

from tests.trainer.objectives.pairs_support import Case, assert_golden, log_sigmoid, make


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        score = []
        for w, rejected, ref_w, ref_l in zip(case.w, case.l, case.ref_w, case.ref_l, strict=True):
            shared = min(len(w), len(rejected))
            c, r = w - ref_w, rejected - ref_l
            score.append(
                c[:shared].sum() + 0.25 * c[shared:].sum()
                - r[:shared].sum() - 0.25 * r[shared:].sum()
            )  # fmt: skip
        return float(np.mean(-log_sigmoid(0.3 * np.array(score))))

    assert_golden("ld-dpo", formula, beta=0.3, alpha=0.25)


def test_the_weights_of_a_long_and_a_short_answer() -> None:
    long_BT = torch.tensor([[1, 1, 1, 1, 0]], dtype=torch.bool)
    short_BT = torch.tensor([[1, 1, 0, 0, 0]], dtype=torch.bool)
    objective = make("ld-dpo", alpha=0.25)
    assert objective.score_weights(long_BT, short_BT).tolist() == [[1, 1, 0.25, 0.25, 0]]
    assert objective.score_weights(short_BT, long_BT).tolist() == [[1, 1, 0, 0, 0]]
