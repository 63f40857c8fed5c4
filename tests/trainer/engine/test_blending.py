"""Models that answer together: the distribution is the published one, and a weight of 1 alone changes no bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing
from trainer.engine.blending import blended, parts_of, vocabularies_check
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import answer_keys
from trainer.play import Blend

if TYPE_CHECKING:
    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampled

PROMPTS = ["sort 5 = ", "sort 31415 = "]


@pytest.fixture(scope="module")
def models() -> dict[str, Policy]:
    # Widths of their own: each part keeps a cache of its own shape.
    return {
        "a": make_policy(seed=1),
        "b": make_policy(seed=2, layers=3),
        "base": make_policy(seed=3, hidden_size=48),
    }


def drawn(policy: Policy, **how: float) -> tuple[list[list[int]], list[Sampled]]:
    prompts = policy.tokenizer(PROMPTS)["input_ids"]
    sampling = Sampling(**{"max_new_tokens": 9, **how})  # type: ignore[arg-type]
    keys = answer_keys(5, PROMPTS, range(6))
    return prompts, sample(policy, prompts, keys, sampling, budget=1 << 20, tick=nothing)


def logits_of(policy: Policy, prompt: list[int], answer: list[int]) -> np.ndarray:
    """Float64 logits before each token of the answer, (tokens, V): one plain pass without any cache."""
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([prompt + answer[:-1]])).logits[0]
    return logits[len(prompt) - 1 :].double().numpy()


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    found: np.ndarray = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return found


def expected(
    blend: Blend, models: dict[str, Policy], prompt: list[int], answer: list[int]
) -> np.ndarray:
    logits = {name: logits_of(policy, prompt, answer) for name, policy in models.items()}
    w = blend.weight
    if blend.mode == "mix":
        # By probabilities, as the source has it, not by logits.
        p = np.exp(log_softmax(logits["a"])) ** (1 - w) * np.exp(log_softmax(logits["b"])) ** w
        found: np.ndarray = np.log(p / p.sum(-1, keepdims=True))
        return found
    return log_softmax(logits["base"] + w * (logits["b"] - logits["a"]))


@pytest.mark.parametrize("mode", ["mix", "proxy"])
@pytest.mark.parametrize("weight", [-1.0, -0.3, 0.25, 0.5, 1.0, 1.7, 3.0])
def test_what_is_drawn_has_the_probability_that_the_formula_gives(models, mode, weight):
    blend = Blend(mode=mode, weight=weight)
    prompts, answers = drawn(blended(parts_of(blend, models)))
    assert len({len(answer.tokens) for answer in answers}) > 1, "some answers should end early"
    for answer in answers:
        logp = expected(blend, models, prompts[answer.prompt], answer.tokens)
        told = logp[np.arange(len(answer.tokens)), answer.tokens]
        np.testing.assert_allclose(answer.logps, told, atol=2e-4)


@pytest.mark.parametrize("how", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}])
@pytest.mark.parametrize(
    ("mode", "weight", "plain"), [("mix", 0, "a"), ("mix", 1, "b"), ("proxy", 0, "base")]
)
def test_at_its_ends_a_blend_is_the_plain_model_to_the_bit(models, mode, weight, plain, how):
    _, alone = drawn(models[plain], **how)
    _, together = drawn(blended(parts_of(Blend(mode=mode, weight=weight), models)), **how)
    assert [a.tokens for a in together] == [a.tokens for a in alone]
    assert [a.logps for a in together] == [a.logps for a in alone]
    assert [a.finish_reason for a in together] == [a.finish_reason for a in alone]


def test_between_its_ends_a_blend_is_neither_model(models):
    told = {
        weight: [a.logps for a in drawn(blended(parts_of(Blend(weight=weight), models)))[1]]
        for weight in (0.0, 0.5, 1.0, 2.0)
    }
    assert len({str(logps) for logps in told.values()}) == 4


def test_a_blend_of_one_model_with_itself_is_that_model(models):
    twice = {"a": models["a"], "b": models["a"]}
    _, alone = drawn(models["a"])
    _, together = drawn(blended(parts_of(Blend(weight=0.5), twice)))
    assert [a.tokens for a in together] == [a.tokens for a in alone]


def test_models_of_different_widths_share_the_narrowest(models):
    wide = make_policy(seed=4)
    wide.model.resize_token_embeddings(wide.vocabulary + 7)
    policy = blended(parts_of(Blend(weight=0.5), {"a": models["a"], "b": wide}))
    assert policy.vocabulary == models["a"].vocabulary
    _, answers = drawn(policy)
    assert max(token for answer in answers for token in answer.tokens) < policy.vocabulary


def test_proxy_tuning_without_a_base_is_refused(models):
    with pytest.raises(ValueError, match="needs a third model, the base"):
        parts_of(Blend(mode="proxy"), {"a": models["a"], "b": models["b"]})


def test_other_vocabularies_are_refused_by_a_token(models):
    vocabularies_check(models)
    other = make_policy(seed=1)
    other.tokens = {**other.tokens, "7": 8, "8": other.tokens["7"]}
    with pytest.raises(
        ValueError, match=r"a and b have different vocabularies, 2 tokens differ \('7'"
    ):
        vocabularies_check({"a": models["a"], "b": other})
