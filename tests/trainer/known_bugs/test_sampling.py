"""What was sampled is what is trained: log-probabilities, tokens, temperature, caches, seeds."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from tests.trainer.engine.support import CHARACTERS, make_policy, nothing, tiny_spec
from tests.trainer.known_bugs.support import (
    apart,
    gathered,
    gradient,
    gradient_by_hand,
    nudged,
    objectives,
    sampled_answers,
    token_mean,
    trained,
)
from trainer.engine.encode import answer_text
from trainer.engine.forward import token_scores
from trainer.engine.load import policy_make, starter_build
from trainer.engine.packing import Sequences
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys
from trainer.engine.update import optimizer_step
from trainer.spec import Model, SpecError

PROMPTS = ["sort 5 = ", "sort 314 = ", "sort 59265 = ", "s"]
SIZE = {"vocab_size": 19, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZE, intermediate_size=64),
    # Absolute positions: a pad in front that shifts them is seen at once.
    "gpt2": lambda **more: transformers.GPT2Config(
        vocab_size=19, n_embd=32, n_layer=2, n_head=2, n_positions=64, **more
    ),
}
DROPOUT = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}


def foreign(name, attention="sdpa", **options):
    """A policy of another architecture, on the starter's characters."""
    torch.manual_seed(0)
    config = CONFIGS[name](**options)
    config.eos_token_id, config.pad_token_id, config.bos_token_id = 1, 0, None
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    _, tokenizer = starter_build(Model(), CHARACTERS, [], 0)
    return policy_make(model, tokenizer, torch.device("cpu"), "float32")


def drawn(policy, how=None, prompts=PROMPTS, samples=4, budget=1 << 30, step=1):
    ids = policy.tokenizer(prompts)["input_ids"]
    keys = sample_keys(0, "train", step, list(range(len(ids))), samples)
    how = how or Sampling(6)
    return ids, sample(policy, ids, keys, how, budget=budget, tick=nothing)


def plain_logps(policy, prompt, tokens, temperature=1.0):
    """By a forward pass of one unpadded sequence without positions, masks or caches of ours."""
    with torch.no_grad():
        ids = torch.tensor([prompt + tokens])
        logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    logp_TV = (logits / temperature).log_softmax(-1)
    return logp_TV.gather(1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bug_13_log_probabilities_do_not_depend_on_padding_or_its_side(name, attention):
    """The sampler pads on the left, the trainer on the right; both equal no padding at all."""
    policy = foreign(name, attention)
    prompts, answers = drawn(policy)
    sequences = Sequences(prompts, [a.tokens for a in answers], [a.prompt for a in answers])
    for shared in (False, True):
        policy.shared_prefix = shared
        with torch.no_grad():
            scores = token_scores(policy, sequences, range(len(answers)))
        padded_BA = scores.padded()[0]
        for row, answer in enumerate(answers):
            plain = plain_logps(policy, prompts[answer.prompt], answer.tokens)
            assert torch.allclose(torch.tensor(answer.logps), plain, atol=1e-5)
            assert torch.allclose(padded_BA[row, : len(plain)], plain, atol=1e-5)


@pytest.mark.parametrize("name", trained("rollouts"))
def test_bug_14_the_first_step_has_ratio_1_and_clips_nothing(session, name):
    policy = make_policy()
    options = [*objectives()[name], "batch.tokens_per_microbatch=60"]
    learner, state, means = gathered(session, policy, *options)
    _, _, values = gradient(learner, state, means)
    clipped = {key: value for key, value in values.items() if key.startswith("clip_ratio/")}
    assert set(clipped.values()) <= {0.0}
    assert values["rollout/logp_diff_max"] < 1e-5
    answers = sampled_answers(session, policy)
    for answer in answers:
        with torch.no_grad():
            plain = answer.logp_T(policy)
        assert torch.allclose(torch.tensor(answer.logps), plain, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_bug_15_the_temperature_is_in_the_trainers_and_in_the_references_numbers(
    session, temperature
):
    policy = make_policy()
    learner, state, means = gathered(
        session, policy, "objective.type=grpo", "objective.beta=0.1",
        f"rollout.temperature={temperature}",
    )  # fmt: skip
    _, _, values = gradient(learner, state, means)
    assert values["rollout/logp_diff_max"] < 1e-5
    # The reference is the policy still: any temperature missing on one side shows as divergence.
    assert abs(values["kl"]) < 1e-9
    for answer in sampled_answers(session, policy):
        with torch.no_grad():
            plain = answer.logp_T(policy, temperature)
            other = answer.logp_T(policy)
        assert torch.allclose(torch.tensor(answer.logps), plain, atol=1e-5)
        assert not torch.allclose(other, plain, atol=1e-2)


@pytest.mark.parametrize("temperature", ["0", "-1", "nan"])
def test_bug_15_a_training_temperature_of_0_or_less_is_refused(temperature):
    with pytest.raises(SpecError, match="temperature"):
        tiny_spec("objective.type=grpo", f"rollout.temperature={temperature}")


TRUNCATED = [{"top_p": 0.8}, {"top_k": 4}, {"min_p": 0.1}, {"top_p": 0.9, "top_k": 6}]


@pytest.mark.parametrize("truncation", TRUNCATED, ids=str)
def test_bug_16_truncated_sampling_leaves_the_expected_ratio_at_1(truncation):
    """The mean of new over old probability under the sampler is the new mass of the kept set: exactly 1."""
    policy = make_policy()
    how = Sampling(1, temperature=0.7, **truncation)
    prompts, answers = drawn(policy, how, samples=1)
    nudged(policy, 0.05)
    cut = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        flags = torch.tensor(_unpacked(answer.kept[0], policy.vocabulary))
        kept = flags.nonzero()[:, 0].tolist()
        cut += len(kept) < policy.vocabulary - 1
        count = len(kept)
        sequences = Sequences([prompt], [[t] for t in kept], [0] * count, [answer.kept] * count)
        with torch.no_grad():
            scores = token_scores(policy, sequences, range(count), temperature=0.7)
            plain = torch.cat([plain_logps(policy, prompt, [token], 0.7) for token in kept])
        assert float(scores.logp_M.exp().sum()) == pytest.approx(1, abs=1e-5)
        assert torch.allclose(scores.logp_M, plain - plain.logsumexp(0), atol=1e-4)
    assert cut == len(prompts)


@pytest.mark.parametrize("truncation", TRUNCATED, ids=str)
def test_bug_16_ratios_after_an_update_have_mean_1(truncation):
    policy = make_policy()
    how = Sampling(2, temperature=0.7, **truncation)
    prompts, answers = drawn(policy, how, samples=200)
    nudged(policy, 0.004)
    sequences = Sequences(
        prompts,
        [a.tokens for a in answers],
        [a.prompt for a in answers],
        [a.kept for a in answers],
    )
    with torch.no_grad():
        logp = token_scores(policy, sequences, range(len(answers)), temperature=0.7).padded()[0]
    ratio = (logp[:, 0] - torch.tensor([a.logps[0] for a in answers])).exp()
    assert float(ratio.std()) > 1e-3
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std() / math.sqrt(len(ratio)))


def _unpacked(bits, vocabulary):
    return [bool(bits[i // 8] >> (7 - i % 8) & 1) for i in range(vocabulary)]


def test_bug_24_trained_tokens_are_the_sampled_ones_though_their_text_encodes_otherwise(
    session, graded
):
    policy = make_policy(tokenizer="bpe", vocab_size=300)
    learner, state, means = gathered(session, policy, "objective.type=grpo")
    answers = sampled_answers(session, policy)
    texts = [answer_text(policy, answer.tokens) for answer in answers]
    again = policy.tokenizer(texts)["input_ids"]
    changed = sum(a.tokens != ids for a, ids in zip(answers, again, strict=True))
    assert changed > len(answers) / 2
    _, grad, values = gradient(learner, state, means)
    assert values["rollout/logp_diff_max"] < 1e-5
    assert apart(grad, gradient_by_hand(policy, answers, token_mean(answers))[1]) < 1e-5


def test_bug_32_dropout_is_off_in_rollouts_and_references(session):
    policy = foreign("gpt2", **DROPOUT)
    assert policy.model.config.resid_pdrop == 0.1
    first, second = drawn(policy)[1], drawn(policy)[1]
    assert [a.tokens for a in first] == [a.tokens for a in second]
    assert [a.logps for a in first] == [a.logps for a in second]
    reference = foreign("gpt2", **DROPOUT)
    for kind in (["objective.type=dpo"], ["objective.type=grpo", "objective.beta=0.1"]):
        learner, state, means = gathered(session, policy, *kind, reference=reference)
        _, _, values = gradient(learner, state, means)
        if "kl" in values:
            assert abs(values["kl"]) < 1e-9 and values["rollout/logp_diff_max"] < 1e-5
        else:
            assert values["rewards/margins"] == 0
    assert not any(module.training for module in policy.model.modules())


def test_bug_33_a_training_step_leaves_generation_and_its_flags_as_they_were(session):
    policy = foreign("gpt2", **DROPOUT)
    flags = (policy.model.training, policy.model.config.use_cache, torch.is_grad_enabled())
    assert flags == (False, True, True)
    before = drawn(policy)[1]
    learner, state, means = gathered(session, policy, "objective.type=grpo", "optimizer.lr=1e-9")
    optimizer = learner.spec.optimizer.build(policy.parameters())
    losses = learner.losses(state, means)
    optimizer_step(policy, optimizer, losses, means, lr=0.0, max_grad_norm=1.0, tick=nothing)
    after = drawn(policy)[1]
    assert [(a.tokens, a.logps) for a in after] == [(a.tokens, a.logps) for a in before]
    assert flags == (
        policy.model.training,
        policy.model.config.use_cache,
        torch.is_grad_enabled(),
    )
    assert policy.model.config.use_cache and not policy.model.is_gradient_checkpointing


def test_bug_33_a_sampler_that_is_stopped_half_way_restores_what_it_set():
    policy = make_policy()
    policy.model.train()
    ticks = iter(range(4))

    def stop():
        if next(ticks) == 3:
            raise KeyboardInterrupt

    keys = sample_keys(0, "train", 1, [0], 2)
    prompts = policy.tokenizer(PROMPTS[:1])["input_ids"]
    with pytest.raises(KeyboardInterrupt):
        sample(policy, prompts, keys, Sampling(6), budget=1 << 30, tick=stop)
    assert policy.model.training and torch.is_grad_enabled()


def test_bug_37_a_rollout_after_an_update_is_by_the_new_weights():
    policy = make_policy()
    prompts, old = drawn(policy)
    nudged(policy, 0.05)
    _, new = drawn(policy)
    assert [a.tokens for a in new] != [a.tokens for a in old]
    for answer in new:
        plain = plain_logps(policy, prompts[answer.prompt], answer.tokens)
        assert torch.allclose(torch.tensor(answer.logps), plain, atol=1e-5)


def test_bug_49_samples_depend_on_seed_step_prompt_and_number_alone(new_session):
    policy = make_policy()
    found = []
    for budget in (1 << 20, 60, 1):
        session = new_session()
        gathered(session, policy, "objective.type=grpo", f"batch.tokens_per_microbatch={budget}")
        found.append([answer.tokens for answer in sampled_answers(session, policy)])
    assert found[0] == found[1] == found[2] and len(found[0]) == 16
    # Every answer of a group has a seed of its own, and so has every group.
    for first in range(0, 16, 4):
        assert len({tuple(a) for a in found[0][first : first + 4]}) > 1


def test_bug_49_no_two_draws_share_a_seed():
    words = [
        sample_keys(seed, purpose, step, list(range(8)), 8).ravel().tolist()
        for seed in (0, 1)
        for purpose in ("train", "eval/a")
        for step in (1, 2)
    ]
    flat = [key for keys in words for key in keys]
    assert len(set(flat)) == len(flat) == 512
