"""Learning from demonstrations: TRL's numbers on a real model, masks, packing, noise."""

from __future__ import annotations

import copy
import json
from functools import partial

import pytest
import torch

from tests.trainer.engine.support import make_policy, tiny_spec
from tests.trainer.engine.templates import chat, make_chat_policy
from tests.trainer.objectives.test_trl_parity import assert_close, trl_sft_loss
from trainer.engine.dataset import Cursor, parts_encode, parts_load
from trainer.engine.demonstrations import DemonstrationLearner, trained_mask
from trainer.engine.evaluate import Evaluation
from trainer.engine.means import Means
from trainer.engine.reference import Reference
from trainer.engine.state import State

TALKS = [
    chat("what is two plus two?", "four", "and three and five?", "the answer is eight"),
    chat("two?", "the sum is two because two is two"),
    chat("what?", "the answer", "why?", "two and two make four", "so?", "four"),
    chat("a", "b"),
]


@pytest.fixture
def learner_of(session, tmp_path):
    """A learner on conversations; its first batch is gathered."""
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in TALKS))

    def make(policy, *overrides, step=0):
        spec = tiny_spec(
            "objective.type=sft",
            "data.train.0.options={}",
            f"data.train.0.source={path}",
            "data.train_on=assistant",
            "data.max_prompt_tokens=128",
            "data.max_tokens=256",
            "batch.tokens_per_microbatch=4096",
            *overrides,
        )
        parts = parts_load(spec.data.train, seed=0, learns_from="demonstrations", datasets={})
        parts_encode(parts, policy, spec.data, "demonstrations")
        cursor = Cursor(parts, spec.curriculum, spec.seed)
        reference = Reference(partial(make_policy, seed=0))
        learner = DemonstrationLearner(session, spec, policy, reference, cursor)
        state = State(visited=cursor.start(), step=step)
        learner.gather(state, Means())
        return learner, state

    return make


def gradient(learner, state):
    learner.policy.model.zero_grad()
    means, total, batches = Means(), 0.0, 0
    for loss in learner.losses(state, means):
        loss.value.backward()
        total += float(loss.value.detach())
        means.add_loss(loss)
        batches += 1
    flat = torch.cat([p.grad.flatten() for p in learner.policy.model.parameters()])
    return total, flat.clone(), means.values(), batches


def trl_gradient(learner, loss_type):
    """The same rows, padded on the right, through TRL's own forward and loss."""
    from trl.trainer.utils import add_fused_lm_head

    model = copy.deepcopy(learner.policy.model)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    width = max(len(e.prompt) + len(e.answers[0]) for e in learner.examples)
    ids = torch.full((len(learner.examples), width), learner.policy.pad_id)
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(learner.examples):
        (answer,) = example.answers
        start = len(example.prompt)
        ids[row, : start + len(answer)] = torch.tensor(example.prompt + answer)
        for place, (token, flag) in enumerate(zip(answer, example.trained, strict=True)):
            if flag:
                labels[row, start + place] = token

    def forward(labels, **_):
        return model(input_ids=ids, labels=labels, fused_lm_head=True)

    loss, metrics = trl_sft_loss(loss_type, forward, labels)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()]), metrics


@pytest.mark.parametrize("objective", ["sft", "dft"])
@pytest.mark.parametrize("budget", [60, 4096])
@pytest.mark.parametrize("name", ["qwen", "llama"])
def test_loss_gradient_and_metrics_are_trls_on_the_same_model(learner_of, objective, budget, name):
    policy = make_chat_policy(name)
    learner, state = learner_of(
        policy, f"objective.type={objective}", f"batch.tokens_per_microbatch={budget}"
    )
    total, ours, values, batches = gradient(learner, state)
    assert batches > 1 if budget == 60 else batches == 1
    loss, theirs, metrics = trl_gradient(learner, "nll" if objective == "sft" else "dft")
    assert_close(torch.tensor(total), loss)
    assert_close(ours, theirs)
    for key in ("entropy", "mean_token_accuracy"):
        assert values[key] == pytest.approx(metrics[key][0], rel=1e-5), key


@pytest.mark.parametrize("objective", ["sft", "dft"])
def test_bug_11_packing_changes_neither_loss_nor_gradient(learner_of, objective):
    policy = make_chat_policy("gemma")
    found = {}
    for packing in ("none", "rows"):
        learner, state = learner_of(
            policy, f"objective.type={objective}", f"batch.packing={packing}"
        )
        found[packing] = gradient(learner, state)
    plain, packed = found["none"], found["rows"]
    assert packed[2]["batch/pad_frac"] < plain[2]["batch/pad_frac"]
    assert packed[0] == pytest.approx(plain[0], rel=1e-6)
    assert_close(packed[1], plain[1])
    for key in ("entropy", "mean_token_accuracy"):
        assert packed[2][key] == pytest.approx(plain[2][key], rel=1e-5)


def test_other_turns_are_seen_but_not_trained_on(learner_of):
    policy = make_chat_policy("llama")
    learner, state = learner_of(policy)
    width = max(len(e.answers[0]) for e in learner.examples)
    mask = trained_mask(learner.examples, width)
    assert mask.sum(-1).tolist() == [example.trained_tokens for example in learner.examples]
    assert any(example.trained_tokens < len(example.answers[0]) for example in learner.examples)
    before = gradient(learner, state)[0]
    # Another word of the user in the middle changes what the assistant's next turn stands behind.
    long = next(e for e in learner.examples if False in e.trained)
    long.answers[0][long.trained.index(False) + 5] = 30
    assert gradient(learner, state)[0] != before


NOISY = "objective.neftune_alpha=20"


def test_noise_does_not_depend_on_how_the_batch_is_cut(learner_of):
    policy = make_chat_policy("llama")
    plain = gradient(*learner_of(policy))
    found = [
        gradient(*learner_of(policy, NOISY, f"batch.packing={packing}", f"batch.tokens_per_microbatch={n}"))
        for packing, n in (("none", 60), ("none", 4096), ("rows", 60), ("rows", 4096))
    ]  # fmt: skip
    assert abs(found[0][0] - plain[0]) > 1e-3
    for total, flat, _, _ in found[1:]:
        assert total == pytest.approx(found[0][0], rel=1e-6)
        assert_close(flat, found[0][1])


def test_noise_is_new_at_every_step_and_the_same_when_a_step_is_taken_again(learner_of):
    policy = make_chat_policy("llama")
    first = gradient(*learner_of(policy, NOISY))
    again = gradient(*learner_of(policy, NOISY))
    assert first[0] == again[0] and torch.equal(first[1], again[1])
    assert gradient(*learner_of(policy, NOISY, step=1))[0] != first[0]
    assert gradient(*learner_of(policy, NOISY, "seed=1"))[0] != first[0]


def test_evaluation_hears_no_noise_and_weighs_trained_tokens(learner_of, session):
    policy = make_chat_policy("llama")
    found = {}
    for name, overrides in (("quiet", []), ("noisy", [NOISY])):
        learner, state = learner_of(policy, *overrides, "rewards=[]", "batch.prompts_per_step=4")
        parts = learner.cursor._parts
        evaluation = Evaluation(session, learner.spec, policy, parts, None)
        found[name] = evaluation.values(0)
        loss = gradient(learner, state)[0]
        # All rows are in the one batch.
        assert (loss == pytest.approx(found[name]["eval/loss"], rel=1e-6)) == (name == "quiet")
    assert found["quiet"] == found["noisy"]
