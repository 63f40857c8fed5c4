"""Noise on the input embeddings: its size, its independence of how the batch is cut, its absence elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers.integrations.neftune import neftune_post_forward_hook

from tests.trainer.engine.support import make_policy
from trainer.control import Control
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.noise import Noise
from trainer.engine.packing import Layout
from trainer.engine.seeds import sample_keys, uniforms

SEQUENCES = Sequences(
    [[3, 4, 5, 6, 7], [8], [9, 10], [4, 4, 4]],
    [[4, 5, 1], [6, 1], [7, 7, 7, 7, 7, 7, 7, 1], [3, 1]],
    [0, 1, 2, 3],
)
ALPHA = 5.0


def noise(step=1, seed=0, documents=range(4), alpha=ALPHA):
    return Noise.of_step(alpha, seed, step, documents)


def document_noise(policy, rows, which):
    """What one document's embeddings get, (L, H)."""
    answers = [answer for row in rows for answer in row.answers]
    layout = Layout(SEQUENCES, rows, answers, policy)
    values = noise().values(layout, 32)
    return values[layout.document_RT == which]


def test_its_numbers_are_those_of_the_seeds_module():
    keys = sample_keys(0, "embedding-noise", 1, [0, 1, 2, 3], 1)[:, 0]
    policy = make_policy()
    layout = Layout(SEQUENCES, micro_batches(SEQUENCES, [2], budget=9, shared=True)[0], [2], policy)
    expected = 2 * uniforms(keys[2:3], 10 * 32).reshape(10, 32) - 1
    drawn = noise().values(layout, 32)[0] * math.sqrt(10 * 32) / ALPHA
    assert np.abs(drawn.numpy() - expected).max() < 1e-5


def test_it_is_off_at_alpha_0():
    assert noise(alpha=0.0) is None


def test_a_document_gets_the_same_noise_alone_padded_and_packed():
    policy = make_policy()
    (alone,) = micro_batches(SEQUENCES, [1], budget=1 << 30, shared=True)
    (padded,) = micro_batches(SEQUENCES, range(4), budget=1 << 30, shared=True)
    (packed,) = micro_batches(SEQUENCES, range(4), budget=1 << 30, shared=True, packed=True)
    assert len(packed) < len(padded) == 4
    first = document_noise(policy, alone, 1)
    assert first.shape == (3, 32)
    assert torch.equal(first, document_noise(policy, padded, 1))
    assert torch.equal(first, document_noise(policy, packed, 1))


def test_step_seed_and_document_each_change_it():
    policy = make_policy()
    layout = Layout(SEQUENCES, micro_batches(SEQUENCES, [0], budget=9, shared=True)[0], [0], policy)
    drawn = [
        n.values(layout, 32)
        for n in (noise(), noise(step=2), noise(seed=1), noise(documents=[7, 1, 2, 3]))
    ]
    for i, one in enumerate(drawn):
        assert all(float((one - other).abs().max()) > 0.1 for other in drawn[:i])


def test_it_is_uniform_and_scaled_by_the_length_of_the_sequence_itself():
    policy = make_policy()
    long = Sequences([list(range(3, 13)) * 20, [5] * 40], [[4, 1], [4, 1]], [0, 1])
    (rows,) = micro_batches(long, [0, 1], budget=1 << 30, shared=True)
    layout = Layout(long, rows, [0, 1], policy)
    values = noise(step=2, documents=range(2)).values(layout, 64)
    for document, length in ((0, 202), (1, 42)):
        drawn = values[layout.document_RT == document] * math.sqrt(length * 64) / ALPHA
        assert -1 <= float(drawn.min()) < -0.99 and 0.99 < float(drawn.max()) < 1
        spread = 1 / math.sqrt(3 * drawn.numel())
        assert abs(float(drawn.mean())) < 4 * spread
        assert float(drawn.var()) == pytest.approx(1 / 3, rel=0.05)
        # Neighbours in a row and in a column know nothing of each other.
        for a, b in ((drawn[1:], drawn[:-1]), (drawn[:, 1:], drawn[:, :-1])):
            assert abs(float((a * b).mean())) < 4 * spread
    assert bool((values[layout.document_RT < 0] == 0).all())


def test_at_equal_lengths_its_size_is_that_of_transformers():
    torch.manual_seed(0)
    table = torch.nn.Embedding(10, 64)
    table.neftune_noise_alpha = ALPHA
    ids = torch.randint(10, (2, 42))
    with torch.no_grad():
        theirs = neftune_post_forward_hook(table, None, table(ids)) - table(ids)
    long = Sequences([[5] * 40, [6] * 40], [[4, 1], [4, 1]], [0, 1])
    (rows,) = micro_batches(long, [0, 1], budget=1 << 30, shared=True)
    ours = noise(step=2, documents=range(2)).values(Layout(long, rows, [0, 1], make_policy()), 64)
    assert ours.shape == theirs.shape
    assert float(ours.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=1e-3)
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.03)


@pytest.mark.parametrize("compact", [True, False])
def test_scores_move_with_it_and_the_hook_is_gone_afterwards(compact):
    policy = make_policy()
    policy.compact_head = compact
    with torch.no_grad():
        before = token_scores(policy, SEQUENCES, range(4)).logp_M
        noisy = token_scores(policy, SEQUENCES, range(4), noise=noise(alpha=50.0)).logp_M
        after = token_scores(policy, SEQUENCES, range(4)).logp_M
    assert float((before - noisy).abs().max()) > 0.01
    assert torch.equal(before, after)
    assert not policy.model.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("objective", ["sft", "dft"])
def test_a_resumed_run_hears_the_same_noise(runs, stop_after, objective):
    kind = [f"objective.type={objective}", "objective.neftune_alpha=5", "rewards=[]"]
    assert runs.run("calm", *kind) == 0
    stop_after(runs.dir("stopped"), 1, 3, Control("stop"))
    assert runs.run("stopped", *kind) == 3
    assert runs.resume("stopped") == 0
    assert runs.metrics("calm") == runs.metrics("stopped")
    assert runs.checkpoint_bytes("calm", 6) == runs.checkpoint_bytes("stopped", 6)
    assert runs.run("quiet", *kind, "objective.neftune_alpha=0") == 0
    assert runs.metrics("quiet")[1, "loss"] != runs.metrics("calm")[1, "loss"]
    assert runs.metrics("quiet")[0, "eval/loss"] == runs.metrics("calm")[0, "eval/loss"]
