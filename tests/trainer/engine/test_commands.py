"""The command line: exit codes, one clear sentence for each mistake, and a last line that is terminal."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time

import pytest

from tests.trainer.engine.support import KINDS, TINY
from trainer.__main__ import main as command
from trainer.control import Control
from trainer.engine import checkpoint, generation, online
from trainer.events import TERMINAL
from trainer.spec import spec_hash

SFT = KINDS["sft"]


def trainer(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_a_run_leaves_what_the_design_promises(runs, capsys):
    assert runs.run("run", *KINDS["grpo"], "checkpoint.keep_best=1") == 0
    run = runs.dir("run")
    raw = run.spec_raw()
    assert raw["sha256"] == spec_hash(raw["spec"]) and raw["spec"]["model"]["dtype"] == "float32"
    events = runs.events("run")
    first, last = events[0], events[-1]
    assert first["type"] == "status" and first["phase"] == "load"
    assert {"spec_hash", "pid", "attempt", "threads", "dtype", "device", "versions"} <= set(
        first["data"]
    )
    assert (last["type"], last["state"], last["cause"]) == ("status", "finished", "finished")
    assert last["message"] and [event["seq"] for event in events] == list(range(1, len(events) + 1))
    steps = [event["step"] for event in events if "loss" in event.get("values", {})]
    assert steps == [1, 2, 3, 4, 5, 6]
    published = [event for event in events if event["type"] == "checkpoint"]
    assert [event["step"] for event in published] == [2, 4, 6]
    assert [event["final"] for event in published] == [False, False, True]
    folder = run.path / published[-1]["path"]
    assert published[-1]["sha256"] == checkpoint.sha256_of(folder / "manifest.json")
    assert published[-1]["metrics"]["eval/accuracy"] >= 0
    assert "finished: all 6 steps done" in capsys.readouterr().out


def test_the_parts_of_a_step_sum_to_the_step(runs):
    runs.run("run", *KINDS["grpo"])
    for event in runs.events("run"):
        values = event.get("values", {})
        if "time/step" in values:
            parts = sum(v for k, v in values.items() if k.startswith("time/") and k != "time/step")
            assert parts == pytest.approx(values["time/step"], rel=0.02)


def test_samples_say_what_was_sampled(runs):
    runs.run("run", *KINDS["grpo"])
    path = runs.dir("run").attempt(1).journal("samples")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    assert samples and {
        "seq", "step", "prompt_id", "group", "prompt", "completion", "token_ids", "logps",
        "finish_reason", "reward", "rewards", "advantage",
    } <= set(samples[0])  # fmt: skip
    for sample in samples:
        assert len(sample["token_ids"]) == len(sample["logps"])
        assert sample["reward"] == pytest.approx(sum(sample["rewards"].values()))


def test_overrides_may_stand_behind_options(runs):
    arguments = ["run", str(runs.spec_path), "budget.max_steps=1", "--dir", str(runs.folder / "d")]
    assert command([*arguments, "objective.type=sft", "optimizer.lr=2e-3"]) == 0
    spec = runs.dir("d").spec()
    assert (spec.budget.max_steps, spec.optimizer.lr) == (1, 2e-3)


def test_a_directory_that_holds_a_run_is_refused(runs, capsys):
    runs.run("run", *SFT)
    assert runs.run("run", *SFT) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert runs.resume("nothing") == 2
    assert runs.resume("run", "--attempt", "1") == 2


MISTAKES = {
    "a bad value": (["optimizer.lr=-1"], "optimizer.lr: "),
    "an unknown key": (["optimiser.lr=1"], "optimiser: "),
    "no equals sign": (["optimizer.lr"], "key.path=value"),
    "a bad index": (["rewards.7.weight=1"], "rewards has 2 entries"),
    "a missing reward": (["rewards=[]", "objective.type=grpo"], "rewards: "),
}
FAULTS = {
    "a missing file": (
        ["data.train.0.options={}", "data.train.0.source=/nope.jsonl"],
        "no such file",
    ),
    "an empty file": (["data.train.0.options={}", "data.train.0.source=EMPTY"], "empty"),
    "a wrong column": (
        ["data.train.0.options={}", "data.train.0.source=WRONG"],
        "no column 'prompt'",
    ),
    "a missing model": (["model.options={}", "model.name=/nope"], "no folder /nope"),
    "an unresolved model": (["model.options={}", "model.name=run:abc"], "--model-path"),
    "an unknown external": (["model.options={}", "model.name=external:abc"], "--model-path"),
    "a bad shape": (["model.options.heads=3"], "hidden_size"),
    "too long prompts": (["data.max_prompt_tokens=2"], "no row is left"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_spec_is_refused_before_anything_is_written(runs, capsys, mistake):
    overrides, sentence = MISTAKES[mistake]
    assert runs.run("run", *overrides) == 2
    assert sentence in capsys.readouterr().err
    assert not runs.dir("run").path.exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_says_what_to_change(runs, capsys, fault):
    overrides, sentence = FAULTS[fault]
    (runs.folder / "empty.jsonl").touch()
    (runs.folder / "wrong.jsonl").write_text('{"text": "a"}\n')
    files = {"EMPTY": runs.folder / "empty.jsonl", "WRONG": runs.folder / "wrong.jsonl"}
    for name, path in files.items():
        overrides = [item.replace(name, str(path)) for item in overrides]
    assert runs.run("run", *SFT, *overrides) == 2
    end = runs.end("run")
    assert (end["state"], end["cause"]) == ("failed", "bad-input")
    error = capsys.readouterr().err
    assert sentence in end["message"] and sentence in error
    assert "Traceback" not in error


def raising(error):
    def raise_it(*arguments, **options):
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("error", "cause", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "disk", "the disk is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom", "out of memory"),
        (MemoryError(), "oom", "tokens_per_microbatch"),
        (ZeroDivisionError("division by zero"), "crash", "ZeroDivisionError: division by zero"),
    ],
    ids=["disk", "oom", "oom too", "crash"],
)
def test_a_failure_has_its_own_cause_and_sentence(
    runs, monkeypatch, capsys, error, cause, sentence
):
    where = checkpoint if cause == "disk" else generation
    monkeypatch.setattr(where, "save_file" if cause == "disk" else "sample", raising(error))
    assert runs.run("run", *KINDS["grpo"], "evaluation.every_steps=0", "data.eval=[]") == 1
    end = runs.end("run")
    assert (end["state"], end["cause"]) == ("failed", cause)
    assert sentence in end["message"] and sentence in capsys.readouterr().err
    assert not list(runs.dir("run").path.glob("checkpoints/*tmp*"))


def test_a_loss_that_is_not_a_number_is_shown_and_ends_the_run(runs, monkeypatch):
    monkeypatch.setattr(online, "token_scores", nan_after(online.token_scores, 3))
    kind = [*KINDS["grpo"], "checkpoint.every_steps=1"]
    assert runs.run("run", *kind) == 1
    end = runs.end("run")
    assert (end["state"], end["cause"]) == ("failed", "nan")
    assert "loss and grad_norm became nan" in end["message"] and "optimizer.lr" in end["message"]
    shown = [event for event in runs.events("run") if event.get("values", {}).get("loss") == "NaN"]
    assert [event["step"] for event in shown] == [4]
    monkeypatch.undo()
    assert runs.resume("run") == 0


def nan_after(token_scores, calls):
    """A model whose weights have gone wrong: after so many forwards it gives no numbers."""
    left = iter(range(1 << 30))

    def scored(*arguments, **options):
        found = token_scores(*arguments, **options)
        if next(left) >= calls:
            found.logp_M = found.logp_M * float("nan")
        return found

    return scored


def test_pause_and_stop_have_exit_codes_of_their_own(runs, stop_after):
    for name, control, code, state in (
        ("stop", Control("stop", "policy", "a rule asked"), 3, "stopped"),
        ("pause", Control("pause", "user", "paused by ada"), 4, "paused"),
    ):
        with pytest.MonkeyPatch.context():
            stop_after(runs.dir(name), 1, 3, control)
            assert runs.run(name, *SFT) == code
        end = runs.end(name)
        assert (end["state"], end["cause"]) == (state, control.cause)
        assert end["message"] == control.message
        assert runs.dir(name).checkpoint_steps()[-1] == 3


def test_a_fenced_attempt_publishes_nothing(runs, stop_after):
    stop_after(runs.dir("told"), 1, 3, Control("stop", "fenced", "attempt 2 has taken over"))
    assert runs.run("told", *SFT) == 3
    assert runs.dir("told").checkpoint_steps() == [2]
    assert runs.end("told")["cause"] == "fenced"


def test_a_newer_attempt_fences_by_its_directory(runs, monkeypatch):
    publish = checkpoint.publish

    def publish_and_begin_attempt_2(folder, **options):
        done = publish(folder, **options)
        runs.dir("run").attempt(2).path.mkdir(exist_ok=True)
        return done

    monkeypatch.setattr(checkpoint, "publish", publish_and_begin_attempt_2)
    assert runs.run("run", *SFT) == 3
    assert runs.dir("run").checkpoint_steps() == [2]
    assert runs.end("run")["cause"] == "fenced"


def test_live_knobs_change_at_a_step_boundary_and_survive_resuming(runs, stop_after):
    knobs = {"optimizer.lr": 0.5, "budget.max_steps": 5}
    stop_after(runs.dir("run"), 1, 3, Control("run", knobs=knobs))
    assert runs.run("run", *SFT, "schedule.type=constant", "checkpoint.every_steps=0") == 0
    rates = {s: v for (s, key), v in runs.metrics("run").items() if key == "learning_rate"}
    assert (rates[3], rates[4]) == (1e-2, 0.5)
    assert max(rates) == 5
    (alert,) = [event for event in runs.events("run") if event["type"] == "alert"]
    assert (alert["level"], alert["code"]) == ("info", "knobs")
    assert runs.resume("run") == 0
    assert runs.events("run", 2)[-1]["step"] == 5


def test_a_knob_that_cannot_change_is_refused_with_an_alert(runs, stop_after):
    stop_after(runs.dir("run"), 1, 3, Control("run", knobs={"data.max_tokens": 5}))
    assert runs.run("run", *SFT) == 0
    (alert,) = [event for event in runs.events("run") if event["type"] == "alert"]
    assert alert["level"] == "warning" and "data.max_tokens" in alert["message"]


def test_evaluate_measures_and_trains_nothing(runs):
    runs.run("run", *SFT)
    model = runs.dir("run").checkpoint(6)
    spec = runs.folder / "evaluate.json"
    spec.write_text(json.dumps({**TINY, "model": {"name": "run:abc"}}))
    options = ["--dir", str(runs.folder / "measured"), "--model-path", str(model)]
    assert command(["evaluate", str(spec), *options, "evaluation.samples_per_prompt=4"]) == 0
    values = {key: value for (_, key), value in runs.metrics("measured").items()}
    assert {"eval/accuracy", "eval/pass@2", "eval/noisy-sort/pass@4", "eval/reward"} <= set(values)
    assert runs.dir("measured").spec().kind == "evaluate"
    assert runs.dir("measured").checkpoint_steps() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_checkpoint(runs, number):
    arguments = [
        "run",
        runs.spec_path,
        "--dir",
        runs.folder / "run",
        *SFT,
        "budget.max_steps=100000",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = runs.dir("run").attempt(1).journal("trainer")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and b'"loss"' in journal.read_bytes():
            break
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) == 3
    end = runs.end("run")
    assert (end["state"], end["message"]) == ("stopped", f"stopped by {number.name}")
    assert runs.dir("run").checkpoint_steps()[-1] == end["step"] > 0


def test_what_needs_no_torch_does_not_load_it(runs):
    for arguments in (["--help"], ["validate", str(runs.spec_path)], ["catalog", "--json"]):
        code = (
            "import sys; from trainer.__main__ import main\n"
            f"try: main({arguments!r})\nexcept SystemExit: pass\n"
            "assert not {'torch', 'transformers'} & set(sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_exit_codes_hold_for_the_real_process(runs):
    assert trainer("validate", runs.spec_path).returncode == 0
    refused = trainer("validate", runs.spec_path, "optimizer.lr=-1")
    assert refused.returncode == 2 and refused.stderr.startswith("error: optimizer.lr")
    broken = runs.folder / "broken.toml"
    broken.write_text("[model\n")
    assert "not TOML" in trainer("run", broken, "--dir", runs.folder / "x").stderr


def test_the_last_line_of_every_attempt_is_terminal(runs, stop_after):
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    runs.run("run", *SFT)
    runs.resume("run")
    for attempt in runs.dir("run").attempts():
        last = runs.end("run", attempt)
        assert last["type"] == "status" and last["state"] in TERMINAL
        assert {"state", "cause", "message"} <= set(last)
