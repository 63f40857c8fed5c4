"""What leaves a run: loadable by plain transformers and peft, saying what the trainer's policy says."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.engine.hub import TOKEN, Hub
from tests.trainer.engine.support import KINDS
from trainer.__main__ import main as command
from trainer.engine.evaluate import Evaluation
from trainer.engine.job import Job
from trainer.engine.retention import best_of

LAST = 6
LORA = ["adapter.type=lora", "adapter.r=4", "optimizer.lr=0.05"]
IDS = torch.tensor([[3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3]])
TIED = ["model.options={hidden_size=32,layers=2,heads=2,tied=true}"]
UNTIED = ["model.options={hidden_size=32,layers=2,heads=2,tied=false}"]


@pytest.fixture
def policies(monkeypatch):
    """The live policies of the runs of a test, in order."""
    found, train = [], Job.train

    def noted(self, policy, resumed):
        found.append(policy)
        return train(self, policy, resumed)

    monkeypatch.setattr(Job, "train", noted)
    return found


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("shape", [TIED, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ["grpo", "dpo"])
def test_the_final_checkpoint_says_what_the_trainer_says(runs, policies, shape, kind):
    assert runs.run("run", *KINDS[kind], *shape) == 0
    folder = runs.dir("run").checkpoint(LAST)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(model), logits(policies[0].model))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (shape is TIED)
    ours, theirs = policies[0].tokenizer, AutoTokenizer.from_pretrained(folder)
    assert theirs.get_vocab() == ours.get_vocab()
    assert theirs.eos_token_id == ours.eos_token_id


def test_the_best_checkpoint_is_found_and_says_what_was_measured(runs, policies):
    keep = ["checkpoint.keep_best=1", "checkpoint.keep_last=1", "checkpoint.best_metric=eval/loss"]
    assert runs.run("run", *KINDS["sft"], *keep, "optimizer.lr=0.5") == 0
    run = runs.dir("run")
    measured = {s: v for (s, key), v in runs.metrics("run").items() if key == "eval/loss" and s}
    best = min(measured, key=measured.get)
    assert best_of(run) == run.checkpoint(best)
    assert set(run.checkpoint_steps()) == {best, LAST}
    # The same weights give the same measurement.
    where = [f"model.name={best_of(run)}", "model.options={}"]
    assert runs.run("again", *KINDS["sft"], *where) == 0
    assert runs.metrics("again")[0, "eval/loss"] == pytest.approx(measured[best], abs=1e-6)


@pytest.mark.parametrize("adapter", [[], LORA], ids=["all weights", "adapter"])
def test_the_best_checkpoint_says_what_the_trainer_said_then(runs, monkeypatch, adapter):
    said, values = {}, Evaluation.values

    def noted(self, step):
        said[step] = logits(self.policy.model)
        # Worse with every step: the first one that is saved stays the best.
        return values(self, step) | {"eval/loss": float(step)}

    monkeypatch.setattr(Evaluation, "values", noted)
    keep = ["checkpoint.keep_best=1", "checkpoint.keep_last=1", "checkpoint.best_metric=eval/loss"]
    assert runs.run("run", *KINDS["sft"], *keep, *adapter) == 0
    folder = best_of(runs.dir("run"))
    assert folder.name == "step-2"
    model = AutoModelForCausalLM.from_pretrained(folder / "base" if adapter else folder)
    if adapter:
        model = PeftModel.from_pretrained(model, folder)
    assert torch.equal(logits(model), said[2])
    assert not torch.equal(said[2], said[LAST])


@pytest.mark.parametrize("shape", [TIED, UNTIED], ids=["tied", "untied"])
def test_an_adapter_loads_in_peft_and_merged_without_it(runs, policies, shape):
    assert runs.run("run", *KINDS["grpo"], *LORA, *shape) == 0
    folder, out = runs.dir("run").checkpoint(LAST), runs.folder / "merged"
    live = logits(policies[0].model)
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    assert torch.equal(logits(PeftModel.from_pretrained(base, folder)), live)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert command(["merge", str(folder), "--out", str(out)]) == 0
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert not hasattr(plain, "peft_config")
    assert float((logits(plain) - live).abs().max()) < 1e-5
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "generation_config.json",
        "merged.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert AutoTokenizer.from_pretrained(out).get_vocab() == policies[0].tokenizer.get_vocab()
    made_from = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    known = json.loads((out / "merged.json").read_text())
    assert known == {"parents": [{"sha256": made_from, "step": LAST}]}
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not [path for path in runs.folder.iterdir() if path.name.startswith(".merged")]


def test_merged_it_needs_no_peft(runs):
    assert runs.run("run", *KINDS["sft"], *LORA) == 0
    out = runs.folder / "merged"
    assert command(["merge", str(runs.dir("run").checkpoint(LAST)), "--out", str(out)]) == 0
    script = (
        "import sys; sys.modules['peft'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        f"AutoModelForCausalLM.from_pretrained({str(out)!r})"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_an_adapter_on_a_named_base_loads_by_itself(runs, policies):
    assert runs.run("start", *KINDS["sft"]) == 0
    where = [f"model.name={runs.dir('start').checkpoint(LAST)}", "model.options={}"]
    assert runs.run("run", *KINDS["sft"], *LORA, *where) == 0
    folder = runs.dir("run").checkpoint(LAST)
    live = logits(policies[1].model)
    assert torch.equal(logits(AutoPeftModelForCausalLM.from_pretrained(folder)), live)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), live)


def test_a_full_checkpoint_is_copied_without_what_resuming_needs(runs, policies):
    assert runs.run("run", *KINDS["sft"]) == 0
    out = runs.folder / "out"
    out.mkdir()
    assert command(["merge", str(runs.dir("run").checkpoint(LAST)), "--out", str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert "model.safetensors" in names and not names & {"trainer", "manifest.json"}
    live = logits(policies[0].model)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(out)), live)


def test_merge_refuses_with_a_sentence(runs, capsys):
    assert runs.run("run", *KINDS["sft"]) == 0
    folder, full = runs.dir("run").checkpoint(LAST), runs.folder / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")

    def refused(source, out):
        capsys.readouterr()
        assert command(["merge", str(source), "--out", str(out)]) == 2
        return capsys.readouterr().err

    assert f"--out: {full} is not empty" in refused(folder, full)
    assert (full / "mine.txt").read_text() == "mine"
    new = runs.folder / "new"
    assert f"{new} is not there" in refused(new, runs.folder / "x")
    assert f"is a run; name one of its checkpoints: the newest is {folder}" in refused(
        runs.dir("run").path, new
    )
    assert "holds no model" in refused(full, new)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert "is damaged: config.json is missing" in refused(folder, new)
    assert not new.exists()


@pytest.fixture
def hub():
    found = Hub()
    yield found
    found.close()


@pytest.fixture
def push(hub, monkeypatch, capsys):
    """Push in this process; returns the exit code and what was printed to stdout and stderr."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def run(folder, *options, token=TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        capsys.readouterr()
        code = command(["push", str(folder), "--to", "ada/model", *options])
        return code, *capsys.readouterr()

    return run


def fetched(hub, folder):
    for name, content in hub.files["ada/model"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_push_uploads_what_others_load_and_nothing_else(runs, policies, hub):
    assert runs.run("run", *KINDS["sft"]) == 0
    folder = runs.dir("run").checkpoint(LAST)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        # The hub of the tests takes large files the plain way.
        "HF_HUB_DISABLE_XET": "1",
    }
    arguments = ["push", str(folder), "--to", "ada/model", "--private"]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{hub.url}/ada/model"), done.stderr
    assert set(hub.files["ada/model"]) == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert hub.private == {"ada/model": True}
    model = AutoModelForCausalLM.from_pretrained(fetched(hub, runs.folder / "fetched"))
    assert torch.equal(logits(model), logits(policies[0].model))


def test_push_refuses_an_adapter_that_nobody_could_load(runs, policies, hub, push):
    assert runs.run("run", *KINDS["sft"], *LORA) == 0
    folder = runs.dir("run").checkpoint(LAST)
    code, _, said = push(folder)
    assert code == 2 and "push it with --merge" in said
    assert hub.calls == []
    code, _, said = push(folder, "--merge")
    assert code == 0, said
    assert hub.private == {"ada/model": False}
    assert not any("adapter" in name for name in hub.files["ada/model"])
    model = AutoModelForCausalLM.from_pretrained(fetched(hub, runs.folder / "fetched"))
    assert float((logits(model) - logits(policies[0].model)).abs().max()) < 1e-5


def test_push_says_why_it_failed(runs, hub, push):
    assert runs.run("run", *KINDS["sft"]) == 0
    folder = runs.dir("run").checkpoint(LAST)
    code, _, said = push(folder, token="hf_of_somebody_else")
    assert code == 2 and said.startswith("error: --to ada/model: the hub refused: ")
    assert "401" in said and "Traceback" not in said
    code, _, said = push(folder, "--to", "not a name")
    assert code == 2 and said.startswith("error: --to: ")
    hub.broken = "/lfs/objects/batch"
    code, _, said = push(folder)
    assert code == 2 and "Your quota is used up." in said
    hub.close()
    code, _, said = push(folder)
    # Nothing is wrong with what was asked for.
    assert code == 1 and said.startswith("error: ConnectError")


def test_nothing_is_pushed_unless_asked(runs, hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    assert runs.run("run", *KINDS["sft"]) == 0
    out = runs.folder / "out"
    assert command(["merge", str(runs.dir("run").checkpoint(LAST)), "--out", str(out)]) == 0
    assert hub.calls == []
