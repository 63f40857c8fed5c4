"""Sampling: its log-probabilities are the trainer's, and a draw depends on nothing but its own key."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys, uniforms

PROMPTS = ["sort 5 = ", "sort 314 = ", "sort 59265 = ", "s"]


def draw(policy, how, budget=1 << 30, samples=6, step=1):
    prompts = policy.tokenizer(PROMPTS)["input_ids"]
    keys = sample_keys(0, "train", step, list(range(len(prompts))), samples)
    return prompts, sample(policy, prompts, keys, how, budget=budget, tick=nothing)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("shared", [True, False])
def test_the_trainer_agrees_with_the_sampler_on_ragged_prompts(temperature, top_p, shared):
    policy = make_policy()
    assert policy.shared_prefix and policy.compact_head
    prompts, answers = draw(policy, Sampling(8, temperature, top_p))
    kept = [a.kept for a in answers] if top_p < 1 else None
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
