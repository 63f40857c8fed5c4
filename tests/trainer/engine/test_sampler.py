"""Sampling: its log-probabilities are the trainer's, and a draw depends on nothing but its own key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.trainer.engine.support import make_policy, nothing
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.sampler import Sampling, kept_set, sample
from trainer.engine.seeds import sample_keys, uniforms

PROMPTS = ["sort 5 = ", "sort 314 = ", "sort 59265 = ", "s"]


def draw(policy, how, budget=1 << 30, samples=6, step=1):
    prompts = policy.tokenizer(PROMPTS)["input_ids"]
    keys = sample_keys(0, "train", step, list(range(len(prompts))), samples)
    return prompts, sample(policy, prompts, keys, how, budget=budget, tick=nothing)


TRUNCATIONS = {
    "whole": {},
    "top-p": {"top_p": 0.8},
    "top-k": {"top_k": 4},
    "min-p": {"min_p": 0.2},
    "all three": {"top_p": 0.9, "top_k": 5, "min_p": 0.05},
}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_trainer_agrees_with_the_sampler_on_ragged_prompts(temperature, truncation, shared):
    policy = make_policy()
    assert policy.shared_prefix and policy.compact_head
    how = Sampling(8, temperature, **TRUNCATIONS[truncation])
    prompts, answers = draw(policy, how)
    kept = [a.kept for a in answers] if how.truncates else None
    assert (kept is None) == (truncation == "whole")
    sequences = Sequences(prompts, [a.tokens for a in answers], [a.prompt for a in answers], kept)
    worst, checked = 0.0, 0
    for rows in micro_batches(sequences, range(len(answers)), budget=150, shared=shared):
        chosen = [answer for row in rows for answer in row.answers]
        with torch.no_grad():
            logp, entropy, _ = token_scores(
                policy, sequences, chosen, rows=rows, temperature=temperature
            ).padded()
        for place, answer in enumerate(chosen):
            size = len(answers[answer].tokens)
            worst = max(
                worst,
                float((logp[place, :size] - torch.tensor(answers[answer].logps)).abs().max()),
                float(
                    (entropy[place, :size] - torch.tensor(answers[answer].entropies)).abs().max()
                ),
            )
            checked += 1
    assert checked == len(answers)
    assert worst < 1e-5


def test_answers_do_not_depend_on_chunks_or_neighbours():
    policy = make_policy()
    _, together = draw(policy, Sampling(8))
    _, apart = draw(policy, Sampling(8), budget=1)
    assert [a.tokens for a in together] == [a.tokens for a in apart]
    assert len({tuple(a.tokens) for a in together}) > 6


def test_another_step_draws_other_answers():
    policy = make_policy()
    _, one = draw(policy, Sampling(8), step=1)
    _, two = draw(policy, Sampling(8), step=2)
    assert [a.tokens for a in one] != [a.tokens for a in two]


def test_an_answer_ends_at_any_end_token_and_keeps_it():
    policy = make_policy()
    seven = policy.tokenizer.convert_tokens_to_ids("7")
    policy.eos_ids = (*policy.eos_ids, seven)
    _, answers = draw(policy, Sampling(12), samples=16)
    ends = {a.tokens[-1] for a in answers if a.finish_reason == "stop"}
    assert seven in ends
    for a in answers:
        assert not set(a.tokens[:-1]) & set(policy.eos_ids)
        assert (a.tokens[-1] in policy.eos_ids) == (a.finish_reason == "stop")
        assert a.finish_reason == "stop" or len(a.tokens) == 12


def test_padding_with_the_end_token_changes_nothing():
    policy = make_policy()
    _, before = draw(policy, Sampling(8))
    policy.pad_id = policy.eos_ids[0]
    _, after = draw(policy, Sampling(8))
    assert [a.tokens for a in before] == [a.tokens for a in after]


def test_temperature_zero_takes_the_likeliest():
    policy = make_policy()
    _, answers = draw(policy, Sampling(4, temperature=0.0), samples=3)
    for first in range(0, len(answers), 3):
        assert answers[first].tokens == answers[first + 1].tokens == answers[first + 2].tokens


def test_draws_follow_the_distribution():
    policy = make_policy(scale=3.0)
    prompts = policy.tokenizer(["sort 314 = "])["input_ids"]
    keys = sample_keys(3, "train", 1, [0], 4000)
    answers = sample(policy, prompts, keys, Sampling(1), budget=1 << 30, tick=nothing)
    counts = torch.bincount(
        torch.tensor([a.tokens[0] for a in answers]), minlength=policy.vocabulary
    )
    with torch.no_grad():
        p = policy.model(torch.tensor(prompts)).logits[0, -1].softmax(-1)
    expected = 4000 * p
    spread = (expected * (1 - p)).sqrt().clamp(min=1)
    assert float(((counts - expected).abs() / spread).max()) < 5


def test_numbers_are_uniform_and_a_pure_function_of_their_counter():
    keys = sample_keys(1, "train", 7, [0, 1], 500)
    values = uniforms(keys, 20)
    assert (values >= 0).all() and (values < 1).all()
    assert abs(values.mean() - 0.5) < 0.01
    assert (uniforms(keys, 5) == values[..., :5]).all()
    assert (sample_keys(1, "train", 7, [1], 500) == keys[1:]).all()


def plain_logits(policy, prompt, tokens):
    """Logits of each answer token by the model's own forward pass."""
    with torch.no_grad():
        return policy.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_the_kept_mass_joins_the_drawn_and_the_whole_distribution(truncation):
    policy = make_policy()
    prompts, answers = draw(policy, Sampling(8, 0.7, **TRUNCATIONS[truncation]))
    below = 0
    for a in answers:
        whole_TV = (plain_logits(policy, prompts[a.prompt], a.tokens) / 0.7).log_softmax(-1)
        whole_T = whole_TV.gather(1, torch.tensor(a.tokens)[:, None])[:, 0]
        joined_T = torch.tensor(a.logps) + torch.tensor(a.log_kept)
        assert torch.allclose(joined_T, whole_T, atol=1e-5)
        below += sum(value < -1e-3 for value in a.log_kept)
    assert (below > 0) == (truncation != "whole")


@pytest.mark.parametrize("truncation", [name for name in TRUNCATIONS if name != "whole"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_what_is_kept_is_what_transformers_keeps(truncation, temperature):
    knobs = TRUNCATIONS[truncation]
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if "top_k" in knobs:
        warpers.append(TopKLogitsWarper(knobs["top_k"]))
    if "top_p" in knobs:
        warpers.append(TopPLogitsWarper(knobs["top_p"]))
    if "min_p" in knobs:
        warpers.append(MinPLogitsWarper(knobs["min_p"]))
    logits_nV = 3 * torch.randn(200, 23, generator=torch.Generator().manual_seed(5))
    theirs_nV = warpers(torch.zeros(200, 1, dtype=torch.long), logits_nV) > -torch.inf
    ours_nV = kept_set((logits_nV / temperature).log_softmax(-1), Sampling(1, **knobs))
    assert torch.equal(ours_nV, theirs_nV)
    assert 200 < int(ours_nV.sum()) < 200 * 23


def test_a_token_that_is_not_kept_is_never_drawn():
    policy = make_policy(scale=1.0)
    prompts = policy.tokenizer(["sort 314 = "])["input_ids"]
    keys = sample_keys(3, "train", 1, [0], 2000)
    how = Sampling(1, top_k=3)
    answers = sample(policy, prompts, keys, how, budget=1 << 30, tick=nothing)
    best = plain_logits(policy, prompts[0], [0])[0].topk(3).indices
    assert {a.tokens[0] for a in answers} == set(best.tolist())


def test_a_moved_policy_has_a_mean_ratio_of_one_over_what_was_drawn_from():
    """Without the kept set on both sides the mean would be the kept mass, about 0.8."""
    policy = make_policy(scale=3.0)
    prompts = policy.tokenizer(["sort 314 = "])["input_ids"]
    keys = sample_keys(3, "train", 1, [0], 1)
    (one,) = sample(
        policy, prompts, keys, Sampling(1, 0.7, top_p=0.8), budget=1 << 30, tick=nothing
    )
    flags = np.unpackbits(one.kept[0], count=policy.vocabulary)
    tokens = flags.nonzero()[0].tolist()
    assert 1 < len(tokens) < policy.vocabulary

    def logps():
        """Of every token that may be drawn, by the trainer's own path."""
        answers = [[token] for token in tokens]
        sequences = Sequences(prompts, answers, [0] * len(answers), [one.kept] * len(answers))
        with torch.no_grad():
            scores = token_scores(policy, sequences, range(len(answers)), temperature=0.7)
        return scores.logp_M.double()

    old_M = logps()
    draw_noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw_noise))
    new_M = logps()
    assert float(old_M.exp().sum()) == pytest.approx(1, abs=1e-6)
    assert float((new_M - old_M).abs().max()) > 0.05
    assert float((old_M.exp() * (new_M - old_M).exp()).sum()) == pytest.approx(1, abs=1e-3)
