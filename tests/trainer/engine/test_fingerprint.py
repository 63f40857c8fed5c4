"""Resuming refuses what would make the saved state void, says the rest, and allows live knobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.trainer.engine.support import KINDS, Runs
from tests.trainer.engine.test_resume import LAST, assert_equal, edited
from trainer import registry
from trainer.control import Control
from trainer.curricula.shuffled import Shuffled

if TYPE_CHECKING:
    from trainer.rundir import RunDir


@pytest.fixture
def stopped(runs: Runs, stop_after) -> RunDir:
    """A run that was stopped at step 3."""
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS["sft"]) == 3
    return runs.dir("run")


REFUSED = {
    "another objective": (
        lambda spec: spec.update(objective={"type": "dpo"}),
        'objective.type was "sft" and is now "dpo"',
    ),
    "another model": (
        lambda spec: spec["model"].update(name="/elsewhere"),
        'model.name was "starter" and is now "/elsewhere"',
    ),
    "another shape": (
        lambda spec: spec["model"]["options"].update(layers=3),
        "model.options.layers was 2 and is now 3",
    ),
    "an adapter": (
        lambda spec: spec.update(adapter={"type": "lora"}),
        'adapter.type was "none" and is now "lora"',
    ),
    "another seed": (lambda spec: spec.update(seed=5), "seed was 0 and is now 5"),
    "fewer rows": (
        lambda spec: spec["data"]["train"][0].update(limit=9),
        "data.train: the rows of noisy-sort have changed (10 then, 9 now)",
    ),
    "other rows": (
        lambda spec: spec["data"]["train"][0]["options"].update(digits=4),
        "data.train: the rows of noisy-sort have changed (10 rows, but not the same ones)",
    ),
    "another source": (
        lambda spec: spec["data"]["train"][0].update(source="arithmetic", options={}),
        "data.train: the rows of arithmetic have changed (the source was added); "
        "data.train: the rows of noisy-sort have changed (the source is gone)",
    ),
    "another order": (
        lambda spec: spec.update(curriculum={"type": "sequential"}),
        "curriculum: the rows of this epoch come in another order",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses_with_a_sentence(runs, stopped, case):
    change, sentence = REFUSED[case]
    saved = runs.checkpoint_bytes("run", 3)
    with edited(stopped) as spec:
        change(spec)
    assert runs.resume("run") == 2
    end = runs.end("run", 2)
    assert (end["state"], end["cause"]) == ("failed", "bad-input")
    assert sentence in end["message"]
    assert "cannot go on from step-3" in end["message"]
    assert "start a new run with model.name" in end["message"]
    assert runs.checkpoint_bytes("run", 3) == saved


@pytest.mark.parametrize(
    "section, knob, value, sentence",
    [
        ("objective", "sft_weight", 0.7, "objective.sft_weight was 0.5 and is now 0.7"),
        ("reference", "name", "starter", 'reference.name was "" and is now "starter"'),
    ],
)
def test_it_refuses_what_the_loss_compares_with(runs, stop_after, section, knob, value, sentence):
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS["dpo"]) == 3
    with edited(runs.dir("run")) as spec:
        spec[section][knob] = value
    assert runs.resume("run") == 2
    assert sentence in runs.end("run", 2)["message"]


def test_a_live_knob_of_the_objective_may_differ_and_is_told(runs, stop_after):
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS["dpo"]) == 3
    with edited(runs.dir("run")) as spec:
        spec["objective"]["beta"] = 0.7
    assert runs.resume("run") == 0
    told = [e["message"] for e in runs.events("run", 2) if e.get("code") == "spec-changed"]
    assert told == ["since step-3 was saved, objective.beta was 0.1 and is now 0.7"]


def test_it_refuses_rows_that_were_changed_in_their_file(runs, stop_after, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n} = ", "completion": str(n)} for n in range(100, 110)]
    write = lambda: path.write_text("".join(json.dumps(row) + "\n" for row in rows))  # noqa: E731
    write()
    source = f'data.train=[{{source="{path}"}}]'
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS["sft"], source) == 3
    rows[4]["completion"] = "0"
    write()
    assert runs.resume("run") == 2
    message = runs.end("run", 2)["message"]
    assert "the rows of rows have changed (10 rows, but not the same ones)" in message
    rows[4]["completion"] = "104"
    write()
    assert runs.resume("run") == 0
    assert runs.run("calm", *KINDS["sft"], source) == 0
    assert_equal(runs, "calm", "run")


def test_the_same_rows_may_lie_elsewhere(runs, stop_after, tmp_path):
    rows = "".join(json.dumps({"prompt": f"{n} = ", "completion": "1"}) + "\n" for n in range(9))
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    (tmp_path / "here" / "rows.jsonl").write_text(rows)
    source = f'data.train=[{{source="{tmp_path}/here/rows.jsonl"}}]'
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS["sft"], source) == 3
    (tmp_path / "here" / "rows.jsonl").rename(tmp_path / "there" / "rows.jsonl")
    with edited(runs.dir("run")) as spec:
        spec["data"]["train"][0]["source"] = f"{tmp_path}/there/rows.jsonl"
    assert runs.resume("run") == 0


def test_it_notices_code_that_gives_another_order(runs, stopped, monkeypatch):
    order = Shuffled.order
    monkeypatch.setattr(
        Shuffled, "order", lambda self, count, epoch, seed: order(self, count, epoch, seed)[::-1]
    )
    assert runs.resume("run") == 2
    assert "the rows of this epoch come in another order" in runs.end("run", 2)["message"]


def test_it_says_what_else_was_changed_and_goes_on(runs, stopped):
    with edited(stopped) as spec:
        spec["optimizer"]["lr"] = 0.001
        spec["budget"]["max_steps"] = 8
        spec["schedule"]["warmup_steps"] = 1
        spec["name"] = "renamed"
    assert runs.resume("run") == 0
    alerts = [event for event in runs.events("run", 2) if event["type"] == "alert"]
    assert [alert["code"] for alert in alerts] == ["spec-edited", "spec-changed"]
    assert alerts[1]["message"] == (
        "since step-3 was saved, budget.max_steps was 6 and is now 8; "
        "optimizer.lr was 0.01 and is now 0.001; schedule.warmup_steps was 2 and is now 1"
    )
    assert runs.dir("run").checkpoint_steps()[-1] == 8
    # What was changed is what the next checkpoint is saved under.
    assert runs.resume("run") == 0
    assert not [event for event in runs.events("run", 3) if event["type"] == "alert"]


def test_an_untouched_run_is_resumed_without_a_word(runs, stopped):
    assert runs.resume("run") == 0
    assert not [event for event in runs.events("run", 2) if event["type"] == "alert"]
    assert runs.run("calm", *KINDS["sft"]) == 0
    assert_equal(runs, "calm", "run")


def test_a_warm_up_is_held_to_its_recipe(runs, stop_after, tmp_path):
    recipe = tmp_path / "warm.toml"
    text = (
        '[data]\ntrain = [{ source = "noisy-sort", limit = 12, options = { digits = 3 } }]\n'
        '[objective]\ntype = "sft"\n[budget]\nmax_steps = 5\n[checkpoint]\nevery_steps = 2\n'
        "[batch]\nprompts_per_step = 4\n"
    )
    recipe.write_text(text)
    stop_after(runs.dir("run"), 1, 3, Control("stop"), "warmup/loss")
    assert runs.run("run", *KINDS["grpo"], f"model.warm_start={recipe}") == 3
    recipe.write_text(text.replace("limit = 12", "limit = 11"))
    assert runs.resume("run") == 2
    assert "(12 then, 11 now)" in runs.end("run", 2)["message"]


def test_a_start_model_that_was_swapped_is_noticed_by_the_loss_that_needs_it(
    runs, stop_after, tmp_path
):
    for name, seed in (("one", 0), ("two", 1)):
        assert runs.run(name, *KINDS["sft"], f"seed={seed}") == 0
    start = tmp_path / "start"
    shutil.copytree(runs.dir("one").checkpoint(LAST), start)
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    keys = [f"model.name={start}", "model.options={}"]
    assert runs.run("run", *KINDS["grpo-two-updates"], *keys) == 3
    shutil.copytree(runs.dir("two").checkpoint(LAST), start, dirs_exist_ok=True)
    assert runs.resume("run") == 2
    assert "the start model" in runs.end("run", 2)["message"]
    assert "has changed since the run began" in runs.end("run", 2)["message"]


@pytest.mark.parametrize("kind", ["grpo-two-updates", "dpo"])
def test_a_named_reference_that_was_swapped_is_noticed_by_the_loss_that_needs_it(
    runs, stop_after, tmp_path, kind
):
    for name, seed in (("one", 0), ("two", 1)):
        assert runs.run(name, *KINDS["sft"], f"seed={seed}") == 0
    reference = tmp_path / "reference"
    shutil.copytree(runs.dir("one").checkpoint(LAST), reference)
    stop_after(runs.dir("run"), 1, 4, Control("stop"))
    assert runs.run("run", *KINDS[kind], f"reference.name={reference}") == 3
    shutil.copytree(runs.dir("two").checkpoint(LAST), reference, dirs_exist_ok=True)
    assert runs.resume("run") == 2
    message = runs.end("run", 2)["message"]
    assert f"reference.name: the weights of {reference} have changed since the run began" in message
    shutil.copytree(runs.dir("one").checkpoint(LAST), reference, dirs_exist_ok=True)
    assert runs.resume("run") == 0


def test_it_tells_of_rows_that_are_measured_on(runs, stop_after, tmp_path):
    path = tmp_path / "held-out.jsonl"
    rows = [{"prompt": f"{n} = ", "completion": str(n)} for n in range(100, 106)]
    write = lambda: path.write_text("".join(json.dumps(row) + "\n" for row in rows))  # noqa: E731
    write()
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", *KINDS["sft"], f'data.eval=[{{source="{path}"}}]') == 3
    rows.pop()
    write()
    assert runs.resume("run") == 0
    alerts = [event for event in runs.events("run", 2) if event["type"] == "alert"]
    assert [(alert["level"], alert["code"]) for alert in alerts] == [("warning", "content-changed")]
    assert alerts[0]["message"] == (
        "since step-3, data.eval: the rows of held-out have changed (6 then, 5 now): what was measured "
        "before cannot be compared with what comes"
    )


def test_it_tells_of_another_version_of_a_shipped_loss(runs, stopped, monkeypatch):
    hashes = registry.hashes()
    monkeypatch.setattr(registry, "hashes", lambda: hashes | {"objectives/sft": "f" * 64})
    assert runs.resume("run") == 0
    alerts = [event for event in runs.events("run", 2) if event["type"] == "alert"]
    assert [alert["message"] for alert in alerts] == [
        "since step-3, objective.type: the code of sft changed"
    ]


def test_it_refuses_a_loss_of_ones_own_that_was_edited(runs, tmp_path):
    methods = tmp_path / "methods"
    methods.mkdir()
    loss = methods / "half_sft.py"
    text = (
        "from typing import Literal\n"
        "from trainer.objectives._supervised import Supervised\n"
        "from trainer.registry import Loss\n\n\n"
        "class HalfSFT(Supervised):\n"
        '    """Half of the likelihood."""\n\n'
        '    type: Literal["half-sft"] = "half-sft"\n\n'
        "    def loss(self, batch):\n"
        '        """Halved."""\n'
        "        return Loss(-0.5 * (batch.weight_BT * batch.logp_BT)[batch.mask_BT].sum())\n"
    )

    def trainer(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "trainer", *arguments],
            env={**os.environ, "ANNEAL_METHODS": str(methods)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    loss.write_text(text)
    folder = str(runs.folder / "run")
    arguments = [
        "run",
        str(runs.spec_path),
        "--dir",
        folder,
        "objective.type=half-sft",
        "rewards=[]",
    ]
    done = trainer(*arguments, "budget.max_steps=2")
    assert done.returncode == 0, done.stderr
    loss.write_text(text.replace("0.5", "0.25"))
    assert trainer("resume", folder).returncode == 2
    message = runs.end("run", 2)["message"]
    assert "cannot go on from step-2: objective.type: the code of half-sft changed" in message
    loss.write_text(text)
    assert trainer("resume", folder).returncode == 0
