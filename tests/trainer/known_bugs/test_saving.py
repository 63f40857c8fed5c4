"""Checkpoints: tied weights once, adapters beside an untouched base, never a half-written one."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

from tests.trainer.engine.support import KINDS, TINY, make_policy, tiny_spec
from tests.trainer.known_bugs.support import gathered, gradient, nudged
from tests.trainer.known_bugs.test_sampling import PROMPTS, drawn, plain_logps
from trainer.control import Control
from trainer.engine import checkpoint
from trainer.engine.adapted import adapter_attach
from trainer.engine.load import folder_load, policy_make
from trainer.engine.sampler import Sampling
from trainer.engine.snapshot import Snapshot
from trainer.rundir import RunDir
from trainer.spec import Model

LAST = TINY["budget"]["max_steps"]
LORA = ["adapter.type=lora", "adapter.r=4"]


def logits_of(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(12)[None]).logits


@pytest.mark.parametrize("tied", [True, False])
def test_bug_36_a_saved_model_has_the_logits_of_the_live_one(runs, tied):
    assert runs.run("run", *KINDS["sft"], f"model.options.tied={str(tied).lower()}") == 0
    folder = runs.dir("run").checkpoint(LAST)
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
        held = sum(file.get_tensor(name).numel() for name in names)
    heads = [name for name in names if "lm_head" in name or "embed_tokens" in name]
    assert len(heads) == (1 if tied else 2)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model, tokenizer = folder_load(str(folder), Model(name=str(folder)))
    policy = policy_make(model, tokenizer, torch.device("cpu"), "float32")
    assert torch.equal(logits_of(plain), logits_of(policy.model))
    assert sum(p.numel() for p in plain.parameters()) == held
    shared = plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    assert shared == tied
    # What training goes on with is tied as well: a step moves both ends or neither.
    nudged(policy, 0.01)
    ends = [policy.model.get_output_embeddings(), policy.model.get_input_embeddings()]
    assert torch.equal(ends[0].weight, ends[1].weight) == tied


def test_bug_36_the_last_weights_of_a_run_are_those_it_evaluated(runs):
    """The checkpoint gives the evaluation that the live model gave."""
    assert runs.run("run", *KINDS["sft"]) == 0
    folder = runs.dir("run").checkpoint(LAST)
    options = ["kind=evaluate", f"model.name={folder}", "model.options={}"]
    assert runs.run("again", *KINDS["sft"], *options) == 0
    live, again = runs.metrics("run"), runs.metrics("again")
    for key in ("eval/reward", "eval/mean_length"):
        assert again[0, key] == live[LAST, key]


def test_bug_35_base_weights_are_the_same_bits_after_a_hundred_rounds(session):
    """Sampling and training use the adapter beside its base; nothing is merged in or taken out."""
    policy = adapted_policy()
    base = {n: p.clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    adapter = {n: p.clone() for n, p in policy.parameters()}
    assert base and adapter
    learner, state, _ = gathered(session, policy, *KINDS["sft"], "batch.prompts_per_step=1")
    optimizer = torch.optim.SGD([p for _, p in policy.parameters()], lr=0.1)
    for _ in range(100):
        gradient(learner, state)
        optimizer.step()
        prompts, answers = drawn(policy, Sampling(2), prompts=PROMPTS[:1], samples=1)
    for name, parameter in policy.model.named_parameters():
        if name in base:
            assert torch.equal(parameter, base[name])
    assert any(not torch.equal(p, adapter[n]) for n, p in policy.parameters())
    for answer in answers:
        plain = plain_logps(policy, prompts[answer.prompt], answer.tokens)
        assert torch.allclose(torch.tensor(answer.logps), plain, atol=1e-5)


def adapted_policy():
    policy = make_policy()
    adapter_attach(policy.model, tiny_spec(*KINDS["sft"], *LORA).adapter.peft_config(), 0)
    return policy


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_bug_38_the_reference_of_a_run_from_an_adapter_is_that_adapter(runs, kind):
    """Not the base it stands on: at the first step policy and reference agree."""
    assert runs.run("first", *KINDS["sft"], *LORA, "optimizer.lr=0.05") == 0
    folder = runs.dir("first").checkpoint(LAST)
    options = [f"objective.type={kind}", "objective.beta=0.1", f"model.name={folder}"]
    options += ["model.options={}", "optimizer.lr=0.05"]
    if kind == "dpo":
        base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
        options += LORA
    assert runs.run("second", *options, *LORA) == 0
    found = runs.metrics("second")
    key = "rewards/margins" if kind == "dpo" else "kl"
    assert abs(found[1, key]) < 1e-6
    assert abs(found[LAST, key]) > 1e-3
    if kind == "dpo":
        # log-probabilities of the chosen answers are the adapter's, far from those of its base.
        model, _ = folder_load(str(folder), Model(name=str(folder)))
        assert float((logits_of(model) - logits_of(base)).abs().max()) > 0.1


def test_bug_38_a_resumed_adapter_goes_on_and_is_not_begun_again(runs, stop_after):
    assert runs.run("calm", *KINDS["dpo"], *LORA) == 0
    stop_after(runs.dir("stopped"), 1, 3, Control("stop"))
    assert runs.run("stopped", *KINDS["dpo"], *LORA) == 3
    assert runs.resume("stopped") == 0
    folders = [runs.dir(name).checkpoint(LAST) for name in ("calm", "stopped")]
    for name in ("adapter_model.safetensors", "trainer/state.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert runs.metrics("stopped") == runs.metrics("calm")


def keep_saving(folder: Path, first: int, told: Path) -> None:
    """Save step after step, and note each once it is said to be saved."""
    run, policy = RunDir(folder), make_policy()
    optimizer = torch.optim.AdamW(policy.model.parameters())
    for step in range(first, first + 10**6):
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.fill_(float(step))
        snapshot = Snapshot.take(
            policy, optimizer, state={"step": step}, buffers={}, fingerprint={}
        )
        label = checkpoint.Label(attempt=1, step=step)
        # Every third is written over itself, as a final one is.
        for _ in range(1 + (step % 3 == 0)):
            checkpoint.publish(run.checkpoint(step), policy=policy, snapshot=snapshot, label=label)
        told.write_text(str(step))
        for old in run.checkpoint_steps()[:-2]:
            checkpoint.remove(run.checkpoint(old))


def kill_savers(folder: Path) -> None:
    """Twenty processes that save, each killed at another moment; what is left must load."""
    draw, told, first, inside = random.Random(0), folder / "told", 1, 0
    folder.mkdir(exist_ok=True)
    for _ in range(20):
        told.unlink(missing_ok=True)
        pid = os.fork()
        if not pid:
            keep_saving(folder, first, told)
        while not told.exists():
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        run = RunDir(folder)
        inside += any("." in path.name for path in run.checkpoints.iterdir())
        found = checkpoint.newest(run, warn=lambda text: None)
        assert found is not None and not checkpoint.damage(found)
        step = checkpoint.read(found).state["step"]
        assert step >= int(told.read_text() or first)
        model, _ = folder_load(str(found), Model(name=str(found)))
        assert {float(p.mean()) for p in model.parameters()} == {float(step)}
        assert not [path.name for path in run.checkpoints.iterdir() if "." in path.name]
        first = step + 1
    print("killed inside a save:", inside)
    assert inside > 5


@pytest.mark.slow
def test_bug_41_a_process_killed_while_it_saves_leaves_a_checkpoint_that_loads(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.trainer.known_bugs.test_saving import kill_savers\n"
        "kill_savers(Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


STEPS_OF_A_SAVE = ["mkdir", "fsync", "replace", "rmtree"]


@pytest.mark.parametrize("call", STEPS_OF_A_SAVE)
@pytest.mark.parametrize("number", range(3))
def test_bug_41_a_save_cut_short_at_any_call_leaves_the_one_before_it(
    tmp_path, monkeypatch, call, number
):
    """The process is gone at once: no handler, no cleaning up."""
    run, policy = RunDir(tmp_path / "run"), make_policy()
    optimizer = torch.optim.AdamW(policy.model.parameters())

    def save(step):
        snapshot = Snapshot.take(
            policy, optimizer, state={"step": step}, buffers={}, fingerprint={}
        )
        label = checkpoint.Label(attempt=1, step=step)
        checkpoint.publish(run.checkpoint(step), policy=policy, snapshot=snapshot, label=label)

    save(1)
    gone = []
    place = {"mkdir": Path, "rmtree": shutil}.get(call, os)
    plain = getattr(place, call)

    def die(*words, **named):
        if gone or len(calls) == number:
            gone.append(True)
            raise SystemExit("killed")
        calls.append(call)
        return plain(*words, **named)

    calls = []
    monkeypatch.setattr(place, call, die)
    # What a killed process would not do either.
    monkeypatch.setattr(
        checkpoint.shutil, "rmtree", die if call == "rmtree" else lambda *a, **k: None
    )
    with contextlib.suppress(SystemExit):
        save(1)
        save(2)
    monkeypatch.undo()
    found = checkpoint.newest(run, warn=lambda text: None)
    assert found is not None and not checkpoint.damage(found)
    assert checkpoint.read(found).state["step"] in (1, 2)
    folder_load(str(found), Model(name=str(found)))


def test_bug_41_a_save_that_fails_is_told_and_leaves_the_one_before_it(runs, monkeypatch):
    publish = checkpoint.publish

    def full(folder, **named):
        if folder.name == "step-4":
            raise OSError(28, "No space left on device", str(folder))
        return publish(folder, **named)

    monkeypatch.setattr(checkpoint, "publish", full)
    assert runs.run("run", *KINDS["sft"]) == 1
    assert runs.end("run")["cause"] == "disk"
    monkeypatch.undo()
    assert runs.dir("run").checkpoint_steps() == [2]
    assert runs.resume("run") == 0
    assert runs.events("run", 2)[1]["data"]["resumed_from"] == "step-2"
