"""What every policy gradient promises, whichever is registered: splits, padding, filters, dials, refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.trainer.objectives.rollouts import (
    SPLITS,
    objective,
    online_tags,
    outcome,
    rollouts,
    taken,
    weighed,
)

AGGREGATIONS = ("token-mean", "sequence-mean", "constant", "prompt-mean")
EVERYTHING: dict[str, Any] = {
    "beta": 0.05,
    "entropy_coef": 0.02,
    "top_entropy": 0.5,
    "mask_truncated": True,
    "off_policy_delta": 0.01,
}
SETTINGS: list[dict[str, Any]] = [{}, {"beta": 0.05}, EVERYTHING]

every_objective = pytest.mark.parametrize("tag", online_tags())
every_setting = pytest.mark.parametrize("knobs", SETTINGS, ids=["plain", "kl", "everything"])


def close(found: Any, wanted: Any) -> bool:
    return bool(
        torch.allclose(torch.as_tensor(found), torch.as_tensor(wanted), rtol=1e-6, atol=1e-8)
    )


def test_the_registry_offers_the_objectives_of_this_family() -> None:
    wanted = {"grpo", "gspo", "cispo", "sapo", "gmpo", "dppo", "reinforce", "ppo"}
    assert wanted <= set(online_tags())


@every_objective
@every_setting
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_any_split_into_micro_batches_gives_the_same_step(
    tag: str, knobs: dict[str, Any], aggregation: str
) -> None:
    """Known bugs 1 to 4: value, gradients and metrics do not depend on how the batch was cut."""
    method = objective(tag, aggregation=aggregation, **knobs)
    whole_loss, whole, whole_metrics = outcome(method, rollouts(), SPLITS[0])
    assert whole["logp_BT"].norm() > 0
    for parts in SPLITS[1:]:
        loss, gradients, metrics = outcome(method, rollouts(), parts)
        assert loss == pytest.approx(whole_loss, rel=1e-6, abs=1e-9)
        for name, gradient in gradients.items():
            assert close(gradient, whole[name]), name
        assert metrics == pytest.approx(whole_metrics, rel=1e-6)


@every_objective
@every_setting
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_copies_of_the_batch_leave_the_loss_unchanged(
    tag: str, knobs: dict[str, Any], aggregation: str
) -> None:
    """Known bug 5: a normaliser that forgets the number of answers or prompts doubles here."""
    method = objective(tag, aggregation=aggregation, **knobs)
    batch = rollouts()
    twice = taken(batch, torch.arange(8).repeat(2))
    twice = replace(
        twice, group_B=torch.cat([batch.group_B, batch.group_B + 10]), tokens=2 * batch.tokens
    )
    once_loss, once, once_metrics = outcome(method, batch)
    loss, gradients, metrics = outcome(method, twice)
    assert loss == pytest.approx(once_loss, rel=1e-6, abs=1e-9)
    assert close(2 * gradients["logp_BT"][:8], once["logp_BT"])
    assert metrics == pytest.approx(once_metrics, rel=1e-6)


@every_objective
@every_setting
def test_what_padding_holds_does_not_matter(tag: str, knobs: dict[str, Any]) -> None:
    """Known bugs 9 and 10: bit-equal whether padding is NaN, infinite or a number."""
    method = objective(tag, **knobs)
    wanted_loss, wanted, _ = outcome(method, rollouts(padding=0.0))
    for padding in (torch.nan, torch.inf, -torch.inf, 7.0):
        loss, gradients, _ = outcome(method, rollouts(padding=padding))
        assert loss == wanted_loss
        for name, gradient in gradients.items():
            assert torch.equal(gradient, wanted[name])


@every_objective
@every_setting
def test_a_fully_masked_batch_has_loss_0_and_a_gradient_of_0(
    tag: str, knobs: dict[str, Any]
) -> None:
    """Known bug 8: no 0/0, and the loss still hangs in the graph."""
    batch = rollouts()
    batch.mask_BT = torch.zeros_like(batch.mask_BT)
    batch.tokens = 0.0
    method = objective(tag, **knobs)
    loss, gradients, metrics = outcome(method, batch)
    assert loss == 0.0
    assert gradients["logp_BT"].abs().sum() == 0
    assert all(value == value for value in metrics.values())
    leaf = batch.logp_BT.clone().requires_grad_()
    assert method.loss(weighed(method, replace(batch, logp_BT=leaf))).value.requires_grad


@every_objective
@pytest.mark.parametrize(
    "knobs",
    [*SETTINGS, {"entropy_coef": 0.02}, {"beta": 0.05, "kl_in": "reward", "kl_estimator": "k1"}],
    ids=["plain", "kl", "everything", "bonus", "reward"],
)
def test_silence_is_claimed_exactly_where_it_is_true(tag: str, knobs: dict[str, Any]) -> None:
    """Known bug 27: without advantage no gradient, or the engine must not skip the answer."""
    method = objective(tag, **knobs)
    batch = rollouts()
    batch.advantage_BT = torch.zeros_like(batch.advantage_BT)
    _, gradients, _ = outcome(method, batch)
    silent = sum(float(gradient.abs().sum()) for gradient in gradients.values()) == 0
    assert method.silent_without_advantage == silent


@pytest.mark.parametrize(
    "tag", [tag for tag in online_tags() if objective(tag).silent_without_advantage]
)
def test_a_skipped_answer_without_advantage_stays_in_the_denominators(tag: str) -> None:
    method = objective(tag)
    batch = rollouts()
    silent_B = torch.tensor([False, True, False, False, True, False, False, False])
    batch.advantage_BT = torch.where(silent_B[:, None], 0.0, batch.advantage_BT)
    _, wanted, _ = outcome(method, batch)
    skipped = weighed(method, batch)
    leaf = batch.logp_BT.clone().requires_grad_()
    loud = (~silent_B).nonzero()[:, 0]
    method.loss(taken(replace(skipped, logp_BT=leaf), loud)).value.backward()
    assert close(torch.where(batch.mask_BT, leaf.grad, 0.0), wanted["logp_BT"])
    # The engine passes them with the log-probabilities of the sampler; that adds nothing.
    rest = taken(replace(skipped, logp_BT=batch.old_logp_BT), silent_B.nonzero()[:, 0])
    assert float(method.loss(rest).value) == 0.0


@every_objective
def test_a_needed_supply_is_asked_for_only_while_its_weight_is_above_0(tag: str) -> None:
    assert not {"reference", "entropy"} & objective(tag).uses
    assert "reward" in objective(tag).uses
    assert "reference" in objective(tag, beta=0.1).uses
    linear = {"beta_schedule": "linear", "beta_end": 0.1}
    assert "reference" in objective(tag, **linear).uses
    assert "entropy" in objective(tag, entropy_coef=0.1).uses
    assert "entropy" in objective(tag, entropy_target=0.1).uses


@every_objective
def test_the_kl_term_has_the_weight_of_its_dial(tag: str) -> None:
    method = objective(tag, beta=0.2, kl_ratio=False)
    batch = rollouts()
    plain = outcome(objective(tag), replace(batch, ref_logp_BT=None))[0]
    full = outcome(method, batch)[0]
    steered = outcome(method, replace(batch, dials={"beta": 0.05}))[0]
    assert full - plain == pytest.approx(4 * (steered - plain), rel=1e-5)
    rewarded = objective(tag, beta=0.2, kl_in="reward", kl_estimator="k1")
    assert outcome(rewarded, batch)[0] == pytest.approx(plain, rel=1e-9)
    assert rewarded.reward_kl({"beta": 0.07}) == 0.07
    assert rewarded.reward_kl({}) == 0.2
    assert method.reward_kl({"beta": 0.07}) == 0.0


@every_objective
def test_the_entropy_bonus_is_a_token_mean_whatever_the_aggregation(tag: str) -> None:
    batch = rollouts()
    mean = float(batch.entropy_BT[batch.mask_BT].mean())
    for aggregation in AGGREGATIONS:
        plain = outcome(objective(tag, aggregation=aggregation), batch)[0]
        bonus, gradients, metrics = outcome(
            objective(tag, aggregation=aggregation, entropy_coef=0.3), batch
        )
        assert plain - bonus == pytest.approx(0.3 * mean, rel=1e-5)
        assert metrics["entropy/trained"] == pytest.approx(mean, rel=1e-6)
        wanted = torch.where(batch.mask_BT, -0.3 / batch.tokens, 0.0).double()
        assert close(gradients["entropy_BT"], wanted)


@every_objective
def test_the_top_entropy_mask_takes_the_policy_gradient_of_the_others(tag: str) -> None:
    batch = rollouts()
    known = batch.old_entropy_BT[batch.mask_BT]
    threshold = known.float().quantile(0.75)
    wanted_BT = batch.mask_BT & (batch.old_entropy_BT >= threshold)
    assert 0 < wanted_BT.sum() <= 10
    # Ratios of 1: no clip takes away a gradient of its own.
    batch.logp_BT = batch.old_logp_BT.clone()
    _, gradients, _ = outcome(objective(tag, top_entropy=0.25), batch)
    reached_BT = gradients["logp_BT"] != 0
    if tag == "gspo":
        # A kept token's loss is its answer's ratio, which all tokens of the answer move.
        wanted_BT = batch.mask_BT & wanted_BT.any(-1, keepdim=True)
    assert torch.equal(reached_BT, wanted_BT)


@every_objective
def test_truncated_answers_leave_the_loss_and_a_token_mean_forgets_them(tag: str) -> None:
    """Known bug 6: filtered tokens count neither above nor below the line of a token-mean."""
    method = objective(tag, aggregation="token-mean", mask_truncated=True)
    loss, gradients, metrics = outcome(method, rollouts())
    assert gradients["logp_BT"][[0, 4]].abs().sum() == 0
    absent = taken(rollouts(), torch.tensor([1, 2, 3, 5, 6, 7]))
    absent.tokens = float(absent.mask_BT.sum())
    wanted_loss, wanted, wanted_metrics = outcome(method, absent)
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert close(gradients["logp_BT"][[1, 2, 3, 5, 6, 7]], wanted["logp_BT"])
    for name, value in wanted_metrics.items():
        if name != "policy_loss":
            assert metrics[name] == pytest.approx(value, rel=1e-6), name


@every_objective
@pytest.mark.parametrize("aggregation", ["sequence-mean", "constant"])
def test_a_filtered_answer_still_counts_as_one_of_the_answers(tag: str, aggregation: str) -> None:
    """Known bug 7, the convention: filtering does not raise the weight of the answers that remain."""
    full = outcome(objective(tag, aggregation=aggregation), rollouts())[1]
    method = objective(tag, aggregation=aggregation, mask_truncated=True)
    filtered = outcome(method, rollouts())[1]
    assert close(filtered["logp_BT"][[1, 2, 3, 5, 6, 7]], full["logp_BT"][[1, 2, 3, 5, 6, 7]])


@every_objective
def test_the_off_policy_mask_drops_bad_answers_that_the_policy_has_left(tag: str) -> None:
    delta = 0.05
    batch = rollouts()
    drift_B = torch.where(batch.mask_BT, batch.old_logp_BT - batch.logp_BT, 0.0).sum(-1)
    drift_B = drift_B / batch.mask_BT.sum(-1)
    bad_B = torch.tensor([value < 0 for value in (1.2, -0.8, 0.5, -1.5, 0.9, -0.3, 0.4, -1.1)])
    wanted_B = bad_B & (drift_B > delta)
    assert 0 < wanted_B.sum() < bad_B.sum()
    # DPPO's pull towards the old policy acts on every token, dropped ones too.
    knobs = {"drift_coef": 0.0} if tag == "dppo" else {}
    plain = outcome(objective(tag, **knobs), batch)[1]["logp_BT"]
    _, gradients, metrics = outcome(objective(tag, off_policy_delta=delta, **knobs), batch)
    assert close(gradients["logp_BT"][~wanted_B], plain[~wanted_B])
    assert gradients["logp_BT"][wanted_B].abs().sum() == 0
    assert metrics["off_policy_masked_frac"] == pytest.approx(float(wanted_B.sum()) / 8)


@every_objective
@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"beta": 0.1, "kl_estimator": "k1", "kl_ratio": False}, "no gradient"),
        ({"beta": 0.1, "kl_estimator": "k2"}, "wrong gradient"),
        ({"beta": 0.1, "kl_in": "reward"}, "wrong gradient"),
        ({"beta_end": 0.1}, "beta_end has no effect"),
        ({"beta": 0.1, "beta_end": 0.1, "beta_schedule": "target", "kl_target": 1}, "no effect"),
        ({"beta_schedule": "linear"}, "above 0"),
        ({"beta_schedule": "target", "kl_target": 0.1}, "above 0"),
        ({"beta": 0.1, "beta_schedule": "target"}, "above 0"),
        ({"beta": 0.1, "kl_target": 0.1}, "kl_target needs"),
        ({"entropy_target": 0.5, "entropy_coef": 2.0}, "must not exceed"),
        ({"top_entropy": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tag: str, knobs: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        objective(tag, **knobs)


def test_dials_are_those_of_the_knobs() -> None:
    assert objective("grpo").dials({}, {}, 0.5) == {}
    cosine = objective("grpo", beta=0.2, beta_end=0.1, beta_schedule="cosine")
    assert cosine.dials({}, {}, 0.5)["beta"] == pytest.approx(0.15)
    target = objective("grpo", beta=0.2, beta_schedule="target", kl_target=0.1)
    assert target.dials({}, {}, 0.0) == {"beta": 0.2}
    assert target.dials({"beta": 0.4}, {"kl": 0.11}, 0.1)["beta"] == pytest.approx(0.4 * 1.01)
    fixed = objective("grpo", entropy_coef=0.01)
    assert fixed.dials({}, {}, 0.0) == {"entropy_coef": 0.01}
    steered = objective("grpo", entropy_coef=0.01, entropy_target=0.5)
    first = steered.dials({}, {}, 0.0)
    assert first == {"entropy_coef": 0.01, "entropy_coef_applied": 0.0}
    second = steered.dials(first, {"entropy/trained": 0.4}, 0.1)
    assert second == pytest.approx({"entropy_coef": 0.015, "entropy_coef_applied": 0.015})


def test_a_steered_bonus_acts_only_with_its_dial() -> None:
    method = objective("grpo", entropy_coef=0.1, entropy_target=0.5)
    plain = outcome(objective("grpo"), rollouts())[0]
    assert outcome(method, rollouts())[0] == pytest.approx(plain, rel=1e-9)
    batch = replace(rollouts(), dials={"entropy_coef": 0.2, "entropy_coef_applied": 0.2})
    mean = float(batch.entropy_BT[batch.mask_BT].mean())
    assert plain - outcome(method, batch)[0] == pytest.approx(0.2 * mean, rel=1e-5)


@every_objective
def test_kl_acts_on_the_tokens_that_the_top_entropy_mask_takes(tag: str) -> None:
    knobs = {"top_entropy": 0.25, "kl_ratio": False}
    without = outcome(objective(tag, **knobs), rollouts())
    found = outcome(objective(tag, beta=0.2, **knobs), rollouts())
    full = outcome(objective(tag, beta=0.2, kl_ratio=False), rollouts())[1]["logp_BT"]
    full = full - outcome(objective(tag), rollouts())[1]["logp_BT"]
    assert close(found[1]["logp_BT"] - without[1]["logp_BT"], full)


@every_objective
def test_the_bonus_is_a_mean_over_the_tokens_it_acts_on(tag: str) -> None:
    batch = rollouts()
    kept_BT = batch.mask_BT & ~batch.truncated_B[:, None]
    knobs = {"mask_truncated": True, "entropy_coef": 0.3}
    _, gradients, metrics = outcome(objective(tag, **knobs), batch)
    assert close(gradients["entropy_BT"], torch.where(kept_BT, -0.3 / kept_BT.sum(), 0.0).double())
    assert metrics["entropy/trained"] == pytest.approx(float(batch.entropy_BT[kept_BT].mean()))
    threshold = batch.old_entropy_BT[kept_BT].float().quantile(0.5)
    kept_BT = kept_BT & (batch.old_entropy_BT >= threshold)
    gradients = outcome(objective(tag, top_entropy=0.5, **knobs), batch)[1]
    assert close(gradients["entropy_BT"], torch.where(kept_BT, -0.3 / kept_BT.sum(), 0.0).double())


@every_objective
def test_a_ratio_beyond_float32_leaves_loss_and_gradient_finite(tag: str) -> None:
    batch = rollouts(padding=0.0)
    batch.old_logp_BT = torch.where(batch.mask_BT, -200.0, 0.0)
    for name in ("old_logp_BT", "logp_BT", "advantage_BT", "ref_logp_BT"):
        setattr(batch, name, getattr(batch, name).float())
    loss, gradients, _ = outcome(objective(tag), batch)
    assert math.isfinite(loss)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
