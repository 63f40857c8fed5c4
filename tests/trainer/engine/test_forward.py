"""The forward pass: shared prompts, micro-batches and padding never change a number."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.engine.support import make_policy
from trainer.engine import forward, packing
from trainer.engine.forward import Sequences, hidden_states, micro_batches, token_scores

SEQUENCES = Sequences(
    [[3, 4, 5, 6, 7], [8], [9, 10]],
    [[4, 5, 1], [6, 1], [7, 7, 7, 7, 1], [3, 1], [9, 9, 1], [5], []],
    [0, 0, 1, 1, 2, 0, 2],
)


def plain(policy, temperature=1.0):
    """Each sequence alone, through the model's own forward."""
    found = []
    for answer, prompt in zip(SEQUENCES.answers, SEQUENCES.prompt_of, strict=True):
        ids = SEQUENCES.prompts[prompt] + answer
        with torch.no_grad():
            logp = (policy.model(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)
        start = len(SEQUENCES.prompts[prompt])
        found.append([float(logp[start + i - 1, token]) for i, token in enumerate(answer)])
    return found


def scored(policy, budget=1 << 30, shared=True, temperature=1.0):
    found = [[] for _ in SEQUENCES.answers]
    for rows in micro_batches(
        SEQUENCES, range(len(SEQUENCES.answers)), budget=budget, shared=shared
    ):
        chosen = [answer for row in rows for answer in row.answers]
        with torch.no_grad():
            logp = token_scores(
                policy, SEQUENCES, chosen, rows=rows, temperature=temperature
            ).padded()[0]
        for place, answer in enumerate(chosen):
            found[answer] = logp[place, : len(SEQUENCES.answers[answer])].tolist()
    return found


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("budget", [1, 12, 1 << 30])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_log_probabilities_equal_those_of_each_sequence_alone(shared, budget, attention):
    policy = make_policy()
    policy.model.set_attn_implementation(attention)
    for ours, theirs in zip(scored(policy, budget, shared, 0.7), plain(policy, 0.7), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_long_group_is_divided_over_rows(monkeypatch):
    monkeypatch.setattr(packing, "ROW_TOKENS", 8)
    policy = make_policy()
    (rows,) = micro_batches(SEQUENCES, range(7), budget=1 << 30, shared=True)
    assert max(row.length for row in rows) <= 8
    for ours, theirs in zip(scored(policy), plain(policy), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_large_vocabulary_is_scored_in_pieces(monkeypatch):
    policy = make_policy()
    whole = token_scores(policy, SEQUENCES, range(7))
    whole.logp_M.sum().backward()
    gradient = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    monkeypatch.setattr(forward, "HEAD_CELLS", 3 * policy.vocabulary)
    pieces = token_scores(policy, SEQUENCES, range(7))
    pieces.logp_M.sum().backward()
    assert torch.allclose(whole.logp_M, pieces.logp_M, atol=1e-6)
    for before, parameter in zip(gradient, policy.model.parameters(), strict=True):
        assert torch.allclose(before, parameter.grad, atol=1e-4)


def test_only_scored_tokens_touch_the_output_layer():
    policy = make_policy()
    seen = []
    policy.model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].shape[0])
    )
    token_scores(policy, SEQUENCES, range(7))
    assert seen == [sum(len(answer) for answer in SEQUENCES.answers)]


def test_groups_stay_whole_where_pairs_must():
    batches = micro_batches(SEQUENCES, range(7), budget=1, shared=False, whole_groups=True)
    assert sorted(sorted(a for row in rows for a in row.answers) for rows in batches) == [
        [0, 1, 5],
        [2, 3],
        [4, 6],
    ]


def test_hidden_states_are_those_before_each_token_and_at_the_last():
    policy = make_policy()
    wanted = [6, 1, 2, 0]
    with torch.no_grad():
        found = hidden_states(policy, SEQUENCES, wanted)
        logits = policy.head(found.hidden_MH)
        scores = token_scores(policy, SEQUENCES, wanted)
    logp_M = logits.log_softmax(-1)
    targets = [t for a in (0, 1, 2) for t in SEQUENCES.answers[a]]
    order = {
        (int(b), int(t)): m
        for m, (b, t) in enumerate(zip(found.answer_M, found.token_M, strict=True))
    }
    places = [(wanted.index(a), t) for a in (0, 1, 2) for t in range(len(SEQUENCES.answers[a]))]
    picked = [order[place] for place in places]
    assert torch.allclose(logp_M[picked, targets], scores.logp_M[picked], atol=1e-5)
    for place, answer in enumerate(wanted):
        ids = SEQUENCES.prompts[SEQUENCES.prompt_of[answer]] + SEQUENCES.answers[answer]
        with torch.no_grad():
            alone = policy.model.base_model(torch.tensor([ids])).last_hidden_state[0, -1]
        assert torch.allclose(found.last_BH[place], alone, atol=1e-5)
