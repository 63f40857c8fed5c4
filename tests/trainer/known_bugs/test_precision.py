"""Low precision neither stops small steps nor bends log-probabilities and entropies."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.engine.support import make_policy
from tests.trainer.known_bugs.test_sampling import drawn
from trainer.engine import forward
from trainer.engine.forward import token_scores
from trainer.engine.packing import Sequences


@pytest.mark.parametrize("kind", ["grpo", "sft"])
def test_bug_43_small_steps_in_bfloat16_move_every_weight(runs, tmp_path, graded, kind):
    """20 steps at a rate of 1e-6: weights and optimizer are float32 although the arithmetic is not."""
    policy = make_policy(scale=1.0)
    folder = tmp_path / "start"
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    options = [f"objective.type={kind}", f"model.name={folder}", "model.options={}"]
    options += ["model.dtype=bfloat16", "optimizer.lr=1e-6", "schedule.type=constant"]
    options += ["schedule.warmup_steps=0", "budget.max_steps=20", "data.eval=[]"]
    assert runs.run("run", *options) == 0
    assert runs.events("run")[1]["data"]["dtype"] == "bfloat16"
    before = load_file(folder / "model.safetensors")
    after = load_file(runs.dir("run").checkpoint(20) / "model.safetensors")
    assert set(before) == set(after)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    changed = sum(int((before[name] != after[name]).sum()) for name in before)
    total = sum(tensor.numel() for tensor in before.values())
    assert changed / total >= 0.99
    # Held in bfloat16, hardly any weight would have moved.
    seen = sum(int((before[n].bfloat16() != after[n].bfloat16()).sum()) for n in before)
    assert seen / total < 0.5
    state = json.loads((runs.dir("run").checkpoint(20) / "trainer" / "state.json").read_text())
    assert state["state"]["step"] == 20


@pytest.mark.parametrize("pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_bug_44_log_probabilities_and_entropies_are_exact_to_1e_5(monkeypatch, pieces, temperature):
    policy = make_policy(scale=6.0)
    prompts, answers = drawn(policy)
    sequences = Sequences(prompts, [a.tokens for a in answers], [a.prompt for a in answers])
    if pieces:
        monkeypatch.setattr(forward, "HEAD_CELLS", 7 * policy.vocabulary)
    with torch.no_grad():
        scores = token_scores(policy, sequences, range(len(answers)), temperature=temperature)
    logp_BA, entropy_BA, _ = scores.padded()
    policy.model.double()
    for row, answer in enumerate(answers):
        prompt = prompts[answer.prompt]
        with torch.no_grad():
            ids = torch.tensor([prompt + answer.tokens])
            logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        exact_TV = (logits / temperature).log_softmax(-1)
        size = len(answer.tokens)
        exact_T = exact_TV.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        entropy_T = -(exact_TV.exp() * exact_TV).sum(-1)
        assert float((logp_BA[row, :size] - exact_T).abs().max()) < 1e-5
        assert float((entropy_BA[row, :size] - entropy_T).abs().max()) < 1e-5


def test_bug_44_behind_bfloat16_logits_everything_is_float32():
    """The rounding of the logits is all that there is: softmax and entropy add none."""
    policy = make_policy(scale=6.0)
    policy.dtype = torch.bfloat16
    prompts, answers = drawn(policy)
    prompt, tokens = prompts[0], answers[0].tokens
    sequences = Sequences([prompt], [tokens], [0])
    with torch.no_grad():
        scores = token_scores(policy, sequences, [0])
        with policy.autocast():
            ids = torch.tensor([prompt + tokens])
            logits = policy.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    assert scores.logp_M.dtype is scores.entropy_M.dtype is torch.float32
    exact_TV = logits.double().log_softmax(-1)
    exact_T = exact_TV.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert float((scores.logp_M - exact_T).abs().max()) < 1e-5
    entropy_T = -(exact_TV.exp() * exact_TV).sum(-1)
    assert float((scores.entropy_M - entropy_T).abs().max()) < 1e-5
    assert logits.dtype is torch.bfloat16
