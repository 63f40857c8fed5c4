"""Sequences that share a row do not see each other."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.known_bugs.support import apart, gathered, gradient, trained
from tests.trainer.known_bugs.test_sampling import CONFIGS, foreign, plain_logps
from trainer.engine.forward import token_scores
from trainer.engine.packing import Sequences, micro_batches


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bug_12_a_document_in_a_packed_row_has_the_numbers_it_has_alone(name, attention):
    policy = foreign(name, attention)
    # The probe at loading takes packed rows apart where they give other numbers; here they must not.
    assert policy.shared_prefix
    draw = torch.Generator().manual_seed(0)

    def tokens(count):
        return torch.randint(3, 19, (count,), generator=draw).tolist()

    prompts = [tokens(5), tokens(3), tokens(7)]
    answers = [tokens(6), tokens(4), tokens(9), tokens(2), tokens(1)]
    sequences = Sequences(prompts, answers, [0, 0, 1, 2, 2])
    plan = micro_batches(sequences, range(5), budget=1 << 30, shared=True, packed=True)
    rows = [row for batch in plan for row in batch]
    assert max(len(row.blocks) for row in rows) > 1
    seen = 0
    for batch in plan:
        chosen = [answer for row in batch for answer in row.answers]
        with torch.no_grad():
            logp_BA = token_scores(policy, sequences, chosen, rows=batch).padded()[0]
        for row, answer in enumerate(chosen):
            prompt = prompts[sequences.prompt_of[answer]]
            alone = plain_logps(policy, prompt, answers[answer])
            assert torch.allclose(logp_BA[row, : len(alone)], alone, atol=2e-5)
            seen += 1
    assert seen == 5


def test_bug_12_another_document_in_the_row_changes_no_number():
    """The neighbour is replaced; to leak, attention would have to look at it."""
    policy = make_policy()
    assert policy.shared_prefix
    found = []
    for neighbour in ([3, 4, 5], [9, 9, 9]):
        sequences = Sequences([neighbour, [7, 8]], [[6, 6, 1], [5, 4, 1]], [0, 1])
        (batch,) = micro_batches(sequences, [0, 1], budget=1 << 30, shared=True, packed=True)
        assert len(batch) == 1 and len(batch[0].blocks) == 2
        with torch.no_grad():
            found.append(token_scores(policy, sequences, [0, 1], rows=batch).padded()[0])
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("name", trained())
def test_bug_11_packed_sequences_count_as_sequences_in_every_aggregation(session, name):
    found = []
    for packing in ("rows", "none"):
        policy = make_policy()
        assert policy.shared_prefix
        policy.shared_prefix = packing == "rows"
        options = [*trained()[name], f"batch.packing={packing}"]
        learner, state, means = gathered(session, policy, *options, nudge=0.01)
        found.append(gradient(learner, state, means)[:2])
    (loss, grad), (other_loss, other) = found
    assert loss == pytest.approx(other_loss, rel=1e-6, abs=1e-6)
    assert apart(grad, other) < 3e-6
