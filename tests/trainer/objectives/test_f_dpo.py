"""f-DPO: other divergences than reverse KL."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    run,
)

DERIVATIVES = {
    "reverse-kl": np.log,
    "forward-kl": lambda u: -1 / u,
    "js": lambda u: np.log(2 * u / (1 + u)),
    "alpha": lambda u: (1 - u**-0.3) / 0.3,
}


@pytest.mark.parametrize("divergence", DERIVATIVES)
def test_it_equals_numpy(divergence: str) -> None:
    def formula(case: Case) -> float:
        of = DERIVATIVES[divergence]
        return float(np.mean(-log_sigmoid(0.3 * (of(np.exp(case.c)) - of(np.exp(case.r))))))

    knobs = {"alpha": 0.3} if divergence == "alpha" else {}
    assert_golden("f-dpo", formula, beta=0.3, divergence=divergence, **knobs)


def test_the_ends_of_alpha_are_reverse_and_forward_kl() -> None:
    for alpha, divergence in ((1e-4, "reverse-kl"), (1 - 1e-4, "forward-kl")):
        near = run(make_case(), make("f-dpo", divergence="alpha", alpha=alpha))[0].value
        limit = run(make_case(), make("f-dpo", divergence=divergence))[0].value
        np.testing.assert_allclose(float(near.detach()), float(limit.detach()), rtol=2e-3)


def test_a_knob_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="only the divergence alpha looks at it"):
        make("f-dpo", divergence="js", alpha=0.3)
    assert make("f-dpo", **{k: v for k, v in make("f-dpo").model_dump().items() if k != "type"})


@pytest.mark.parametrize("divergence", DERIVATIVES)
def test_extreme_ratios_stay_finite(divergence: str) -> None:
    case = make_case()
    case.w[0][0] -= 1e4
    case.l[0][0] -= 1e4
    case.w[1][0] += 1e3
    loss, (chosen, rejected) = run(case, make("f-dpo", divergence=divergence))
    assert bool(loss.value.isfinite() & chosen.isfinite().all() & rejected.isfinite().all())
