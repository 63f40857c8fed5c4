"""Rows of several documents: exact masks, bounded rows, gradients that do not know of them."""

from __future__ import annotations

import random

import pytest
import torch
import transformers

from tests.trainer.engine.support import make_policy
from trainer.engine.forward import token_scores
from trainer.engine.load import policy_make
from trainer.engine.packing import Layout, Sequences, exact_rows, micro_batches, padding


def sequences(count=12, seed=0, answers=1):
    draw = random.Random(seed)

    def ids(low, high):
        return [draw.randrange(3, 15) for _ in range(draw.randrange(low, high))]

    prompts = [ids(1, 9) for _ in range(count)]
    prompt_of = [prompt for prompt in range(count) for _ in range(answers)]
    return Sequences(prompts, [[*ids(0, 7), 1] for _ in prompt_of], prompt_of)


def scores(policy, given, *, packed, budget=1 << 30, shared=True):
    found = [[] for _ in given.answers]
    most = 0
    wanted = range(len(given.answers))
    for rows in micro_batches(given, wanted, budget=budget, shared=shared, packed=packed):
        chosen = [answer for row in rows for answer in row.answers]
        most = max(most, *(len(row.blocks) for row in rows))
        with torch.no_grad():
            logp = token_scores(policy, given, chosen, rows=rows).padded()[0]
        for place, answer in enumerate(chosen):
            found[answer] = logp[place, : len(given.answers[answer])].tolist()
    return found, most


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("answers", [1, 3])
@pytest.mark.parametrize("budget", [40, 1 << 30])
def test_bug_12_a_packed_document_sees_itself_alone(attention, answers, budget):
    policy = make_policy()
    policy.model.set_attn_implementation(attention)
    given = sequences(answers=answers)
    packed, most = scores(policy, given, packed=True, budget=budget)
    assert most > 1
    for answer, prompt in enumerate(given.prompt_of):
        ids = given.prompts[prompt] + given.answers[answer]
        with torch.no_grad():
            logp = policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(given.prompts[prompt])
        alone = [float(logp[start + i - 1, t]) for i, t in enumerate(given.answers[answer])]
        assert packed[answer] == pytest.approx(alone, abs=1e-5)


def test_bug_12_changing_one_document_leaves_its_neighbours_alone():
    policy = make_policy()
    given = sequences()
    before, _ = scores(policy, given, packed=True)
    given.prompts[0] = [14 - token % 3 for token in given.prompts[0]]
    after, _ = scores(policy, given, packed=True)
    assert before[0] != after[0]
    assert before[1:] == after[1:]


@pytest.mark.parametrize("count", [1, 5, 40])
def test_packing_loses_no_answer_and_makes_no_row_longer(count, monkeypatch):
    monkeypatch.setattr("trainer.engine.packing.SHORT_ROW", 0)
    given = sequences(count)
    wanted = range(count)
    (plain,) = micro_batches(given, wanted, budget=1 << 30, shared=True)
    (packed,) = micro_batches(given, wanted, budget=1 << 30, shared=True, packed=True)
    assert sorted(a for row in packed for a in row.answers) == list(wanted)
    assert max(row.length for row in packed) == max(row.length for row in plain)
    assert padding(packed)[0] <= padding(plain)[0]
    lengths = [len(given.prompts[i]) + len(given.answers[i]) for i in wanted]
    assert sum(row.length for row in packed) == sum(lengths)
    if count == 40:
        assert len(packed) < len(plain) and padding(packed)[0] < 0.5 * padding(plain)[0]


def test_short_documents_share_rows_of_a_fixed_length():
    given = sequences(40)
    (packed,) = micro_batches(given, range(40), budget=1 << 30, shared=True, packed=True)
    assert 48 < max(row.length for row in packed) <= 64
    (plain,) = micro_batches(given, range(40), budget=1 << 30, shared=True)
    assert padding(packed)[0] < 0.5 * padding(plain)[0]


@pytest.mark.parametrize("budget", [20, 40, 130])
def test_micro_batches_of_packed_rows_keep_to_the_budget(budget):
    given = sequences(40)
    batches = micro_batches(given, range(40), budget=budget, shared=True, packed=True)
    assert len(batches) > 1
    assert all(padding(rows)[1] <= budget for rows in batches)


def test_packing_never_makes_more_cells():
    for count in range(1, 30):
        given = sequences(count, seed=count, answers=1 + count % 3)
        wanted = range(len(given.answers))
        cells = []
        for packed in (False, True):
            (rows,) = micro_batches(given, wanted, budget=1 << 30, shared=True, packed=packed)
            cells.append(padding(rows)[1])
        assert cells[1] <= cells[0]


def test_no_answers_make_no_micro_batches():
    assert micro_batches(sequences(3), [], budget=9, shared=True, packed=True) == []


def test_groups_stay_whole_and_a_group_of_many_rows_is_left_alone(monkeypatch):
    monkeypatch.setattr("trainer.engine.packing.ROW_TOKENS", 12)
    given = sequences(10, answers=2)
    batches = micro_batches(
        given, range(20), budget=30, shared=True, packed=True, whole_groups=True
    )
    for rows in batches:
        inside = sorted(answer for row in rows for answer in row.answers)
        assert [a // 2 for a in inside[0::2]] == [a // 2 for a in inside[1::2]]
    assert sorted(a for rows in batches for row in rows for a in row.answers) == list(range(20))


def test_a_model_without_block_masks_packs_nothing():
    given = sequences()
    (rows,) = micro_batches(given, range(12), budget=1 << 30, shared=False, packed=True)
    assert all(len(row.blocks) == 1 for row in rows)


def test_only_the_tokens_that_are_wanted_are_scored():
    policy = make_policy()
    given = sequences()
    everything = token_scores(policy, given, range(12)).padded()[0].detach()
    given.scored = [[i % 2 == 0 for i in range(len(answer))] for answer in given.answers]
    chosen = token_scores(policy, given, range(12))
    assert len(chosen.logp_M) == sum(map(sum, given.scored))
    half = chosen.padded()[0].detach()
    for row, flags in enumerate(given.scored):
        for column, flag in enumerate(flags):
            expected = float(everything[row, column]) if flag else 0.0
            assert float(half[row, column]) == pytest.approx(expected, abs=1e-6)


def absolute_positions():
    """A GPT-2 with few positions: a packed row may be longer than they reach."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=17,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=20,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return policy_make(model, make_policy().tokenizer, torch.device("cpu"), "float32")


def test_bug_13_absolute_positions_restart_with_every_document():
    policy = absolute_positions()
    assert policy.shared_prefix
    given = sequences(answers=4)
    packed, most = scores(policy, given, packed=True)
    (rows,) = micro_batches(given, range(48), budget=1 << 30, shared=True, packed=True)
    assert most > 1 and max(row.length for row in rows) > 20
    plain, _ = scores(policy, given, packed=False, shared=False)
    for ours, theirs in zip(packed, plain, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("make", [make_policy, absolute_positions], ids=["llama", "gpt2"])
def test_bug_13_padding_changes_no_log_probability(make):
    policy = make()
    short, long = ([4, 5], [6, 1]), ([3] * 9, [7] * 5 + [1])
    alone = Sequences([short[0]], [short[1]], [0])
    beside = Sequences([short[0], long[0]], [short[1], long[1]], [0, 1])
    with torch.no_grad():
        first = token_scores(policy, alone, [0]).logp_M
        (rows,) = micro_batches(beside, [0, 1], budget=1 << 30, shared=False)
        scored = token_scores(policy, beside, [0, 1], rows=rows)
        second = scored.logp_M[scored.answer_M == 0]
        # The sampler pads on the left.
        ids = torch.tensor([[0] * 9 + short[0] + short[1]])
        mask = torch.tensor([[0] * 9 + [1] * 4])
        position = (mask.cumsum(1) - 1).clamp(min=0)
        logits = policy.model(input_ids=ids, attention_mask=mask, position_ids=position).logits[0]
        third = logits.log_softmax(-1)[[10, 11], short[1]]
    assert torch.allclose(first, second, atol=1e-5)
    assert torch.allclose(first, third, atol=1e-5)


def test_a_row_without_neighbours_needs_no_mask():
    policy = make_policy()
    given = sequences(1)
    (rows,) = micro_batches(given, [0], budget=1 << 30, shared=True, packed=True)
    assert Layout(given, rows, [0], policy).mask is None


def windowed(window):
    """A Mistral whose layers see only so many tokens."""
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=17, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, sliding_window=window,
        bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = transformers.MistralForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
    return policy_make(model, make_policy().tokenizer, torch.device("cpu"), "float32")


def test_a_sequence_longer_than_a_sliding_window_keeps_its_window(monkeypatch):
    # A row of 8 tokens fits the window; the documents do not.
    monkeypatch.setattr("trainer.engine.probe.ROW_TOKENS", 8)
    policy = windowed(8)
    assert policy.shared_prefix and policy.window == 8
    given = sequences(answers=2)
    packed, most = scores(policy, given, packed=True)
    assert most > 1
    for answer, prompt in enumerate(given.prompt_of):
        ids = given.prompts[prompt] + given.answers[answer]
        with torch.no_grad():
            logp = policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(given.prompts[prompt])
        alone = [float(logp[start + i - 1, t]) for i, t in enumerate(given.answers[answer])]
        assert packed[answer] == pytest.approx(alone, abs=1e-4)


def test_rows_planned_for_one_model_are_taken_apart_for_another():
    policy, other = make_policy(), make_policy()
    given = sequences(answers=2)
    (rows,) = micro_batches(given, range(24), budget=1 << 30, shared=True, packed=True)
    expected = token_scores(policy, given, range(24), rows=rows).padded()[0]
    other.shared_prefix = False
    layout = Layout(given, exact_rows(given, rows, other), range(24), other)
    assert layout.mask is None and len(layout.ids_RT) == 24
    found = token_scores(other, given, range(24), rows=rows).padded()[0]
    assert torch.allclose(found, expected, atol=1e-5)
