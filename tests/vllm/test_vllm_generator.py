"""The vLLM engine has the policy's own weights after each hand-over, and its figures are the trainer's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing
from tests.vllm.conftest import PROBE, SHAPE
from trainer.engine import randomness
from trainer.engine.failure import Failure
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.sampler import Sampling, kept_set
from trainer.engine.seeds import sample_keys
from trainer.engine.vllm_engine import _rank_offered, base_weights

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    # Its own and its libraries' warnings are not ours to mend.
    pytest.mark.filterwarnings("default"),
]
PROMPTS = ["sort 5 = ", "sort 314 = ", "sort 59265 = ", "s="]
TRUNCATIONS = {
    "whole": {},
    "top-p": {"top_p": 0.8},
    "top-k": {"top_k": 4},
    "min-p": {"min_p": 0.2},
    "top-k and top-p": {"top_k": 5, "top_p": 0.9},
}


def draw(policy, engine, how, samples=6, step=1, prompts=None, tick=nothing):
    prompts = prompts or policy.tokenizer(PROMPTS)["input_ids"]
    keys = sample_keys(0, "train", step, list(range(len(prompts))), samples)
    return prompts, engine.sample(prompts, keys, how, budget=1 << 20, tick=tick)


# --- weights ---------------------------------------------------------------------------------------


def test_bug_34_after_every_hand_over_it_says_what_the_trainer_says(policy, engine, move):
    for _ in range(3):
        move(policy)
        assert engine.difference() > 1e-3
        engine.sync()
        assert engine.difference() < 1e-5


def test_bug_35_a_hundred_hand_overs_leave_the_policy_the_same_bits(policy, engine):
    before = {name: weight.clone() for name, weight in policy.model.named_parameters()}
    for _ in range(100):
        policy.version += 1
        engine.sync()
    after = dict(policy.model.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert engine.difference() < 1e-5


def test_bug_36_a_tied_output_layer_is_as_new_as_the_embedding(policy, engine):
    assert policy.model.config.tie_word_embeddings
    embedding = policy.model.get_input_embeddings().weight
    if not embedding.requires_grad:
        return
    engine.sync()
    with torch.no_grad():
        embedding.add_(torch.randn_like(embedding), alpha=0.3)
    policy.version += 1
    # Stale on one of its two ends, it would fail the check.
    engine.sync()
    assert engine.difference() < 1e-5


def test_bug_37_a_prefix_that_was_computed_by_older_weights_is_not_used_again(policy, engine, move):
    """A prompt of many blocks would be taken from the cache whole."""
    prompts = [PROBE * 34]
    how = Sampling(4, 1.0)
    draw(policy, engine, how, prompts=prompts)
    move(policy)
    _, answers = draw(policy, engine, how, prompts=prompts)
    assert gap(policy, prompts, answers, how) < 1e-4


def test_a_hand_over_that_fails_ends_the_run_and_says_so(policy, engine, move, monkeypatch):
    engine.sync()
    move(policy)
    with monkeypatch.context() as patch:
        patch.setattr(type(engine), "_push", lambda *_: None)
        patch.setattr(type(engine), "_adapter_push", lambda *_: None)
        with pytest.raises(Failure, match="vLLM and the trainer differ by") as failure:
            engine.sync()
    assert failure.value.cause == "weight-sync"
    # It was not taken for done.
    engine.sync()
    assert engine.difference() < 1e-5


def test_weights_that_have_not_moved_are_not_handed_over_again(policy, engine, monkeypatch):
    engine.sync()
    calls = []
    monkeypatch.setattr(type(engine), "_check", lambda self: calls.append(1))
    engine.sync()
    assert not calls


def test_each_tensor_is_handed_over_once_under_the_name_of_the_plain_model(policy):
    plain = dict(make_policy(**SHAPE).model.named_parameters())
    told = base_weights(policy.model)
    assert sorted(told) == sorted(plain)
    pointers = [weight.data_ptr() for weight in told.values()]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize(("rank", "offered"), [(1, 8), (8, 8), (9, 16), (64, 64)])
def test_the_rank_that_is_made_room_for(rank, offered):
    assert _rank_offered(rank) == offered


# --- answers ---------------------------------------------------------------------------------------


def gap(policy, prompts, answers, how):
    """Largest difference between recorded log-probabilities and those of the trainer."""
    kept = [a.kept for a in answers] if how.truncates else None
    sequences = Sequences(prompts, [a.tokens for a in answers], [a.prompt for a in answers], kept)
    worst = 0.0
    for rows in micro_batches(sequences, range(len(answers)), budget=150, shared=True):
        chosen = [answer for row in rows for answer in row.answers]
        with torch.no_grad():
            logp, _, _ = token_scores(
                policy, sequences, chosen, rows=rows, temperature=how.temperature
            ).padded()
        for place, answer in enumerate(chosen):
            told = torch.tensor(answers[answer].logps)
            worst = max(worst, float((logp[place, : len(told)] - told).abs().max()))
    return worst


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_the_trainer_agrees_with_what_was_recorded(policy, engine, temperature, truncation):
    how = Sampling(10, temperature, **TRUNCATIONS[truncation])
    prompts, answers = draw(policy, engine, how)
    assert len(answers) == 24 and [a.prompt for a in answers] == [i // 6 for i in range(24)]
    assert len({tuple(a.tokens) for a in answers}) > 4
    assert gap(policy, prompts, answers, how) < 1e-4
    for answer in answers:
        assert len(answer.logps) == len(answer.tokens) <= 10
        assert all(math.isnan(value) for value in answer.entropies)


@pytest.mark.parametrize("truncation", [name for name in TRUNCATIONS if name != "whole"])
def test_the_kept_tokens_are_those_that_the_native_engine_would_keep(policy, engine, truncation):
    how = Sampling(6, 0.8, **TRUNCATIONS[truncation])
    prompts, answers = draw(policy, engine, how)
    for answer in answers:
        ids = [*prompts[answer.prompt], *answer.tokens]
        with torch.no_grad():
            logits_TV = policy.model(torch.tensor([ids])).logits[0].float()
        first = len(prompts[answer.prompt]) - 1
        logp_TV = (logits_TV[first : first + len(answer.tokens)] / 0.8).log_softmax(-1)
        told = np.unpackbits(answer.kept, axis=1)[:, : policy.vocabulary].astype(bool)
        assert (told == kept_set(logp_TV, how).numpy()).all()


def test_an_answer_ends_with_its_end_token_or_at_its_limit(policy, engine):
    _, answers = draw(policy, engine, Sampling(12, 1.3), samples=24)
    reasons = {answer.finish_reason for answer in answers}
    assert reasons == {"stop", "length"}
    for answer in answers:
        ended = answer.tokens[-1] in policy.eos_ids
        assert ended == (answer.finish_reason == "stop")
        assert not set(answer.tokens[:-1]) & set(policy.eos_ids)
        assert ended or len(answer.tokens) == 12


def test_an_answer_depends_on_its_key_and_not_on_its_neighbours(policy, engine):
    prompts = policy.tokenizer(PROMPTS)["input_ids"]
    keys = sample_keys(0, "train", 3, list(range(4)), 5)
    how = Sampling(8, 1.0)
    together = engine.sample(prompts, keys, how, budget=1, tick=nothing)
    alone = engine.sample(prompts[2:3], keys[2:3, 1:3], how, budget=1, tick=nothing)
    assert [a.tokens for a in alone] == [a.tokens for a in together[11:13]]
    # The same seed in two requests would give one and the same answer.
    assert len({tuple(a.tokens) for a in together[:5]}) > 1


def test_temperature_0_takes_the_likeliest(policy, engine):
    prompts, answers = draw(policy, engine, Sampling(6, 0.0), samples=1)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = [*prompt, *answer.tokens]
        with torch.no_grad():
            best = policy.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        assert best[len(prompt) - 1 : -1] == answer.tokens


def test_who_leaves_in_the_middle_leaves_nothing_behind(policy, engine):
    how = Sampling(12, 1.0)
    _, before = draw(policy, engine, how, step=5)
    ticks = iter(range(4))
    with pytest.raises(StopIteration):
        draw(policy, engine, how, step=5, tick=lambda: next(ticks))
    assert not engine._engine.llm.llm_engine.has_unfinished_requests()
    _, after = draw(policy, engine, how, step=5)
    assert [a.tokens for a in after] == [a.tokens for a in before]


def test_no_random_state_of_the_run_moves(policy, engine, move):
    randomness.seed_all(11)
    before = randomness.states()
    draw(policy, engine, Sampling(6, 1.0))
    policy.version += 1
    engine.sync()
    after = randomness.states()
    assert all(torch.equal(before[name], after[name]) for name in before)
