"""Adapters in a run: trained, saved in peft's format, resumed, compared with, and never merged in place."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.trainer.engine.support import KINDS, make_policy, nothing
from trainer.adapters.lora import LoRA
from trainer.control import Control
from trainer.engine.adapted import (
    adapter_attach,
    adapter_off,
    adapter_weights,
    merged,
)
from trainer.engine.forward import Sequences, token_scores
from trainer.engine.load import folder_load
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys
from trainer.spec import Model

LAST = 6
# The base beneath an adapter cannot follow the policy.
LORA = ["adapter.type=lora", "adapter.r=4", "adapter.alpha=8", "reference.sync_every=0"]
FILES = ("adapter_model.safetensors", "trainer/state.safetensors")


def adapter_bytes(runs, name, step=LAST):
    folder = runs.dir(name).checkpoint(step)
    return {file: (folder / file).read_bytes() for file in FILES}


def adapted_policy(seed=0, **knobs):
    """A policy whose adapter moves it: B does not stand at 0."""
    policy = make_policy()
    adapter_attach(policy.model, LoRA(type="lora", r=4, **knobs).peft_config(), seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in policy.parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.2)
    return policy


def base_weights(model):
    return {
        name.replace(".base_layer", ""): value.clone()
        for name, value in model.state_dict().items()
        if "lora_" not in name
    }


SEQUENCES = Sequences([[3, 4, 5, 6], [7, 8]], [[9, 10, 1], [4, 1], [5, 6, 1]], [0, 0, 1])


def logps(policy):
    with torch.no_grad():
        return token_scores(policy, SEQUENCES, [0, 1, 2]).padded()[0]


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_trained_and_resumed_to_the_bit(runs, stop_after, kind):
    assert runs.run("calm", *KINDS[kind], *LORA) == 0
    for step in (1, 3):
        name = f"stopped-{step}"
        stop_after(runs.dir(name), 1, step, Control("stop"))
        assert runs.run(name, *KINDS[kind], *LORA) == 3
        assert runs.resume(name) == 0
        assert adapter_bytes(runs, name) == adapter_bytes(runs, "calm")
        assert runs.metrics(name) == runs.metrics("calm")
    losses = [value for (_, key), value in runs.metrics("calm").items() if key == "loss"]
    assert len(losses) == LAST


def test_the_checkpoint_holds_the_adapter_and_finds_its_base(runs):
    assert runs.run("run", *KINDS["sft"], *LORA) == 0
    folder = runs.dir("run").checkpoint(LAST)
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8)
    assert config["base_model_name_or_path"] == "base"
    assert sorted(config["target_modules"]) == config["target_modules"]
    # One copy on the disk for the run and all its checkpoints.
    base = runs.dir("run").path / "base" / "model.safetensors"
    assert (folder / "base" / "model.safetensors").samefile(base)
    # The run may be moved, and a checkpoint taken out of it.
    shutil.copytree(folder, runs.folder / "taken")
    shutil.rmtree(runs.dir("run").path)
    model, _ = folder_load(str(runs.folder / "taken"), Model())
    assert adapter_weights(model)


@pytest.mark.parametrize("named", ["by its path", "as an external model"])
def test_a_base_that_has_a_name_is_named(runs, named):
    assert runs.run("start", *KINDS["sft"]) == 0
    start = runs.dir("start").checkpoint(LAST)
    where = [f"model.name={start}", "model.options={}"]
    if named == "as an external model":
        where = ["model.name=external:7", "model.options={}", "--model-path", str(start)]
    assert runs.run("run", *KINDS["sft"], *LORA, *where) == 0
    folder = runs.dir("run").checkpoint(LAST)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(start)
    assert not (folder / "base").exists() and not (runs.dir("run").path / "base").exists()


def test_another_run_s_checkpoint_is_kept_as_the_base(runs):
    """checkpoint:ID means a folder that only this machine knows."""
    assert runs.run("start", *KINDS["sft"]) == 0
    start = runs.dir("start").checkpoint(LAST)
    spec = ["model.name=checkpoint:7", "model.options={}"]
    assert runs.run("run", *KINDS["sft"], *LORA, *spec, "--model-path", str(start)) == 0
    folder = runs.dir("run").checkpoint(LAST)
    kept = {path.name for path in (folder / "base").iterdir()}
    assert "model.safetensors" in kept and not kept & {"trainer", "manifest.json"}
    assert (folder / "base/model.safetensors").samefile(start / "model.safetensors")


def test_half_a_base_of_a_killed_attempt_is_removed(runs, monkeypatch):
    replace = os.replace

    def cut_short(source, target):
        if Path(target).name == "base":
            raise OSError("killed here")
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut_short)
    assert runs.run("run", *KINDS["sft"], *LORA) == 1
    monkeypatch.undo()
    folder = runs.dir("run").path
    (left,) = folder.glob(".base.*.tmp")
    left.rename(folder / ".base.1.tmp")
    assert runs.resume("run") == 0
    assert not list(folder.glob(".base.*")) and (folder / "base").is_dir()


def test_training_leaves_the_base_alone(runs):
    assert runs.run("run", *KINDS["grpo"], *LORA, "optimizer.lr=0.1") == 0
    folder = runs.dir("run").checkpoint(LAST)
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    model, _ = folder_load(str(folder), Model())
    found = base_weights(model)
    for name, value in base.state_dict().items():
        assert torch.equal(found[name], value), name
    assert any(bool(v.any()) for n, v in adapter_weights(model).items() if "lora_B" in n)


def test_a_hundred_rollouts_leave_the_base_alone():
    """Known bug 35: adapters merged into the base for the sampler and taken out again drift."""
    policy = adapted_policy()
    before = base_weights(policy.model)
    keys = sample_keys(0, "train", 1, [0], 2)
    for _ in range(100):
        sample(policy, [[3, 4]], keys, Sampling(2), budget=1 << 20, tick=nothing)
        with adapter_off(policy.model):
            logps(policy)
    after = base_weights(policy.model)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("knobs", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_the_sampler_samples_with_the_adapter(knobs):
    policy = adapted_policy(**knobs)
    prompt = [3, 4, 5]
    keys = sample_keys(0, "train", 1, [0], 8)
    sampled = sample(policy, [prompt], keys, Sampling(5), budget=1 << 20, tick=nothing)
    sequences = Sequences([prompt], [item.tokens for item in sampled], [0] * 8)
    with torch.no_grad():
        scores = token_scores(policy, sequences, range(8)).padded()[0]
        with adapter_off(policy.model):
            plain = token_scores(policy, sequences, range(8)).padded()[0]
    worst = max(
        abs(logp - float(scores[row, t]))
        for row, item in enumerate(sampled)
        for t, logp in enumerate(item.logps)
    )
    assert worst < 1e-5
    assert float((scores - plain).abs().max()) > 0.1
    assert policy.shared_prefix and policy.compact_head


def test_switched_off_it_is_the_base_and_switched_on_the_same_again():
    policy, plain = adapted_policy(), make_policy()
    with_adapter = logps(policy)
    trained = [name for name, _ in policy.parameters()]
    with adapter_off(policy.model):
        assert torch.equal(logps(policy), logps(plain))
    assert torch.equal(logps(policy), with_adapter)
    assert [name for name, _ in policy.parameters()] == trained
    assert all("lora_" in name for name in trained) and len(trained) == 2 * 2 * 7


def test_gradients_reach_the_adapter_with_the_reference_in_between():
    policy = adapted_policy()
    scores = token_scores(policy, SEQUENCES, [0, 1, 2])
    with torch.no_grad(), adapter_off(policy.model):
        token_scores(policy, SEQUENCES, [0, 1, 2])
    scores.logp_M.sum().backward()
    found = {name for name, p in policy.model.named_parameters() if p.grad is not None}
    assert found == {name for name, _ in policy.parameters()}


@pytest.mark.parametrize("start", ["plain", "adapter"])
def test_the_reference_is_what_the_run_starts_from(runs, start):
    """Known bug 38: DPO on a model that SFT had given an adapter was held to the base underneath."""
    assert runs.run("sft", *KINDS["sft"], *(LORA if start == "adapter" else [])) == 0
    folder = runs.dir("sft").checkpoint(LAST)
    where = [f"model.name={folder}", "model.options={}"]
    assert runs.run("dpo", *KINDS["dpo"], *LORA, *where, "optimizer.lr=1e-9") == 0
    # At the first step policy and reference are one: no margin, and the loss is log 2 plus the NLL.
    margins = [
        v for (s, key), v in runs.metrics("dpo").items() if s == 1 and key == "rewards/margins"
    ]
    assert abs(margins[0]) < 1e-5


def test_a_run_goes_on_with_the_adapter_it_starts_from(runs):
    assert runs.run("sft", *KINDS["sft"], *LORA) == 0
    folder = runs.dir("sft").checkpoint(LAST)
    where = [f"model.name={folder}", "model.options={}"]
    assert runs.run("on", *KINDS["dpo"], *LORA, *where, "optimizer.lr=1e-9") == 0
    before, _ = folder_load(str(folder), Model())
    after, _ = folder_load(str(runs.dir("on").checkpoint(LAST)), Model())
    for name, value in adapter_weights(before).items():
        assert torch.allclose(adapter_weights(after)[name], value, atol=1e-6)
    # A full training takes it in, in a copy: the loss at the start is the same.
    assert runs.run("full", *KINDS["dpo"], *where, "optimizer.lr=1e-9") == 0
    assert (runs.dir("full").checkpoint(LAST) / "model.safetensors").exists()
    one, other = (
        next(v for (s, key), v in runs.metrics(n).items() if s == 1 and key == "loss")
        for n in ("on", "full")
    )
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (["adapter.r=8"], "adapter.r: the start model holds an adapter with r = 4"),
        (["adapter.alpha=16"], "adapter.alpha: the start model holds an adapter with alpha = 8"),
    ],
)
def test_it_refuses_an_adapter_that_the_start_model_s_cannot_be(runs, change, sentence):
    assert runs.run("sft", *KINDS["sft"], *LORA) == 0
    where = [f"model.name={runs.dir('sft').checkpoint(LAST)}", "model.options={}"]
    assert runs.run("on", *KINDS["sft"], *LORA, *where, *change) == 2
    assert sentence in runs.end("on")["message"]


def test_it_refuses_layers_that_are_not_there(runs):
    code = runs.run("run", *KINDS["sft"], *LORA, 'adapter.target_modules=["nothing"]')
    assert code == 2
    assert "adapter.target_modules" in runs.end("run")["message"]


def test_it_refuses_a_base_that_was_swapped(runs, stop_after):
    assert runs.run("one", *KINDS["sft"]) == 0
    assert runs.run("two", *KINDS["sft"], "seed=1") == 0
    start = runs.folder / "start"
    shutil.copytree(runs.dir("one").checkpoint(LAST), start)
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    where = [f"model.name={start}", "model.options={}"]
    assert runs.run("run", *KINDS["sft"], *LORA, *where) == 3
    shutil.copytree(runs.dir("two").checkpoint(LAST), start, dirs_exist_ok=True)
    assert runs.resume("run") == 2
    assert "model.name: the base model's weights changed" in runs.end("run", 2)["message"]


def test_a_warm_up_gives_the_base(runs, tmp_path):
    recipe = tmp_path / "warm.toml"
    recipe.write_text(
        '[data]\ntrain = [{ source = "noisy-sort", limit = 12, options = { digits = 3 } }]\n'
        '[objective]\ntype = "sft"\n[budget]\nmax_steps = 3\n[batch]\nprompts_per_step = 4\n'
    )
    assert runs.run("run", *KINDS["grpo"], *LORA, f"model.warm_start={recipe}") == 0
    warm = runs.dir("run").path / "warm-up" / "checkpoints" / "step-3"
    base = runs.dir("run").path / "base"
    assert (base / "model.safetensors").samefile(warm / "model.safetensors")
    assert (runs.dir("run").checkpoint(LAST) / "base" / "config.json").exists()


@pytest.mark.parametrize("knobs", [{}, {"use_rslora": True}, {"use_dora": True}])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_it_says_the_same(knobs, tied):
    policy = make_policy(tied=tied)
    adapter_attach(policy.model, LoRA(type="lora", r=4, **knobs).peft_config(), 0)
    with torch.no_grad():
        for name, parameter in policy.parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    before = logps(policy)
    model = merged(policy.model)
    assert not any("lora" in name or "base_layer" in name for name, _ in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert float((logps(policy) - before).abs().max()) < 1e-5


def test_new_weights_are_a_function_of_the_seed_and_move_no_other_draw():
    torch.manual_seed(5)
    one = adapter_weights(adapted_policy(1).model)
    torch.manual_seed(6)
    two = adapter_weights(adapted_policy(1).model)
    assert all(torch.equal(one[name], value) for name, value in two.items())
    other = adapter_weights(adapted_policy(2).model)
    assert any(not torch.equal(one[name], value) for name, value in other.items())
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    adapted_policy(1)
    assert torch.equal(torch.rand(1), expected)


def test_peft_itself_gives_the_same_logits(runs):
    assert runs.run("run", *KINDS["grpo"], *LORA, "optimizer.lr=0.05") == 0
    folder = runs.dir("run").checkpoint(LAST)
    ours, _ = folder_load(str(folder), Model())
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    theirs = PeftModel.from_pretrained(base, folder)
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
        base = AutoModelForCausalLM.from_pretrained(folder / "base")
        assert not torch.equal(ours(ids).logits, base(ids).logits)


def test_an_adapter_of_another_base_is_refused(runs):
    assert runs.run("run", *KINDS["sft"], *LORA) == 0
    folder = runs.dir("run").checkpoint(LAST)
    shutil.rmtree(folder / "base")
    assert runs.run("small", *KINDS["sft"], "model.options={hidden_size=16,heads=2,layers=2}") == 0
    shutil.copytree(runs.dir("small").checkpoint(LAST), folder / "base")
    where = [f"model.name={folder}", "model.options={}"]
    assert runs.run("on", *KINDS["sft"], *where) == 2
    assert "cannot load the adapter" in runs.end("on")["message"]
