"""Restarts by cause, rules and live changes with real trainers, hosts and journals under a real `up`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec
from trainer.disk import disk_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]

PROMISE = 30.0
"""Seconds that an ordinary phase may be silent, for all of these."""
STAGED = '''
"""Methods that fail on purpose."""

import json
import sys
from typing import Literal

from trainer.registry import Answer, Reward

CALLS = [0]


def spec() -> dict:
    with open(f"{sys.argv[2]}/spec.json") as file:
        return json.load(file)["spec"]
'''
HUNGRY = '''
class Hungry(Reward):
    """Runs out of memory until the micro-batch is small enough."""

    type: Literal["hungry"] = "hungry"

    def score(self, answer: Answer) -> float | None:
        """One, or no memory."""
        if spec()["batch"]["tokens_per_microbatch"] > 100:
            raise MemoryError("out of memory, staged")
        return 1.0
'''
SICK = '''
from trainer.objectives.sft import SFT


class SickSFT(SFT):
    """SFT whose 26th loss and all behind it are no number while the rate is high."""

    type: Literal["sick-sft"] = "sick-sft"

    def loss(self, batch):
        """SFT's, or not a number."""
        found = super().loss(batch)
        CALLS[0] += 1
        if CALLS[0] > 25 and spec()["optimizer"]["lr"] > 5e-4:
            found.value = found.value * float("nan")
        return found
'''
BROKEN = '''
class Broken(Reward):
    """Prints what a broken network prints, and raises."""

    type: Literal["broken"] = "broken"

    def score(self, answer: Answer) -> float | None:
        """Never."""
        print("NCCL error 5 on rank 0", flush=True)
        return 1 / 0
'''


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack(slots=2)
    methods = found.folder / "methods"
    for family, name, code in (
        ("rewards", "hungry", HUNGRY),
        ("rewards", "broken", BROKEN),
        ("objectives", "sick_sft", SICK),
    ):
        (methods / family).mkdir(parents=True, exist_ok=True)
        (methods / family / f"{name}.py").write_text(STAGED + code)
    found.env["ANNEAL_METHODS"] = str(methods)
    found.env["ANNEAL_PROMISE"] = f"{PROMISE:g}"
    try:
        found.up()
        yield found
    finally:
        found.remove()


def alerts(stack: Stack, run_id: str, code: str) -> list[str]:
    events = stack.call("GET", f"/runs/{run_id}/events?per_page=500")["items"]
    return [one["data"]["message"] for one in events if one["data"].get("code") == code]


def curve(stack: Stack, run_id: str, key: str) -> dict[float, Any]:
    found = stack.call("GET", f"/runs/{run_id}/series?keys={key}")[key]
    return dict(zip(found["x"], found["y"], strict=True))


def test_a_trainer_out_of_memory_goes_on_with_a_smaller_micro_batch(stack: Stack) -> None:
    raw = spec(20, rewards=[{"type": "hungry"}], batch={"prompts_per_step": 4})
    raw["batch"]["tokens_per_microbatch"] = 150
    run_id = stack.launch(raw, policy={"on_oom": "smaller-microbatch"})
    run = stack.wait_state(run_id, "finished", "failed", within=120)
    assert (run["state"], run["restarts"], run["attempt"]) == ("finished", 1, 2), run
    assert alerts(stack, run_id, "oom-retry") == [
        "Out of memory: batch.tokens_per_microbatch 150 → 75."
    ]
    ran = stack.call("GET", f"/runs/{run_id}/spec")
    assert ran["effective"]["batch"]["tokens_per_microbatch"] == 75
    assert ran["spec"]["batch"]["tokens_per_microbatch"] == 150


def test_without_a_policy_it_fails(stack: Stack) -> None:
    raw = spec(20, rewards=[{"type": "hungry"}])
    run = stack.wait_state(stack.launch(raw), "finished", "failed", within=120)
    assert (run["state"], run["cause"], run["restarts"]) == ("failed", "oom", 0)


def test_nan_rolls_back_to_the_last_healthy_checkpoint_with_a_lower_rate(stack: Stack) -> None:
    raw = spec(60, objective={"type": "sick-sft"}, rewards=[], optimizer={"lr": 1e-3})
    raw["data"]["eval"] = []
    policy = {"on_nan": "rollback", "nan_lr_factor": 0.25}
    run_id = stack.launch(raw, policy=policy)
    run = stack.wait_state(run_id, "finished", "failed", within=120)
    assert (run["state"], run["restarts"], run["attempt"]) == ("finished", 1, 2), run
    (told,) = alerts(stack, run_id, "nan-rollback")
    # Every tenth step was saved.
    assert told == (
        "Rolled back to step 20, optimizer.lr 0.001 → 0.00025. First bad signal at step 26."
    )
    rates = curve(stack, run_id, "learning_rate")
    assert (rates[20], rates[21], rates[60]) == (1e-3, 2.5e-4, 2.5e-4)


def test_an_error_in_the_users_own_code_is_not_retried(stack: Stack) -> None:
    run_id = stack.launch(spec(20, rewards=[{"type": "broken"}]), max_restarts=5)
    run = stack.wait_state(run_id, "finished", "failed", within=120)
    assert (run["state"], run["cause"], run["restarts"]) == ("failed", "crash", 0)
    assert run["reason"] == "The reward broken raised ZeroDivisionError: division by zero"


def test_bad_input_is_not_retried(stack: Stack) -> None:
    raw = spec(20)
    raw["data"]["train"] = [{"source": "/nowhere/rows.jsonl"}]
    run = stack.wait_state(stack.launch(raw, max_restarts=5), "failed", "finished", within=120)
    assert (run["state"], run["cause"], run["restarts"]) == ("failed", "bad-input", 0)


def test_a_rule_reads_the_log_of_the_failed_attempt(stack: Stack) -> None:
    rule = {"pattern": r"NCCL error \d+", "action": "exclude-node"}
    raw = spec(20, rewards=[{"type": "broken"}])
    run_id = stack.launch(raw, policy={"log_rules": [rule]})
    stack.wait(
        lambda: "ruled out for this run" in stack.run(run_id)["reason"],
        90,
        lambda: stack.run(run_id),
    )
    run = stack.run(run_id)
    assert (run["state"], run["excluded_nodes"], run["restarts"]) == ("queued", ["local"], 1)
    stack.call("POST", f"/runs/{run_id}/stop", {})
    run_id = stack.launch(raw, policy={"log_rules": [{**rule, "action": "no-retry"}]})
    run = stack.wait_state(run_id, "failed", within=90)
    assert "matched “NCCL error 5 on rank 0”: no retry" in run["reason"]


def test_live_changes_reach_a_trainer_and_outlive_its_kill(stack: Stack) -> None:
    run_id = stack.launch(spec(optimizer={"lr": 1e-3}), max_restarts=9)
    stack.wait(lambda: stack.run(run_id)["step"] > 5, 60)
    knobs = {"optimizer.lr": 2e-4, "rollout.temperature": 0.9, "rewards.0.weight": 0.5}
    stack.call("PATCH", f"/runs/{run_id}", {"knobs": knobs})

    def applied() -> dict[str, Any]:
        changes = stack.call("GET", f"/runs/{run_id}/steering")["changes"]
        return {one["path"]: one for one in changes}

    stack.wait(lambda: set(knobs) <= set(applied()), 30)
    first = applied()["optimizer.lr"]
    assert (first["old"], first["new"]) == (1e-3, 2e-4)
    stack.call("POST", f"/runs/{run_id}/save", {})
    stack.call("POST", f"/runs/{run_id}/evaluate", {})
    stack.wait(lambda: len(alerts(stack, run_id, "asked")) >= 1, 30)
    stack.wait(lambda: stack.kill_process(run_id, "trainer"), 30)
    stack.wait(lambda: stack.run(run_id)["attempt"] == 2, 60)
    goal = stack.run(run_id)["step"] + 60
    stack.call("PATCH", f"/runs/{run_id}", {"knobs": {"budget.max_steps": goal}})
    stack.wait_state(run_id, "finished", "failed", within=120)
    rates = curve(stack, run_id, "learning_rate")
    assert all(rate == (1e-3 if x < first["step"] else 2e-4) for x, rate in rates.items())
    seams = stack.call("GET", f"/runs/{run_id}/seams")
    assert "optimizer.lr 0.001 → 0.0002" in seams[0]["text"]
    stack.assert_everything_arrived(run_id)


def test_a_trainer_that_does_not_listen_is_ended_by_force_and_the_run_says_who_asked(
    stack: Stack,
) -> None:
    # Neither saved nor evaluated: caught in a save it would be given ten minutes.
    run_id = stack.launch(spec(checkpoint={"every_steps": 0}, evaluation={"every_steps": 0}))
    stack.wait(lambda: stack.run(run_id)["step"] > 5, 60)
    (attempt,) = stack.attempts(run_id)
    from trainer.processes import processes_read

    trainer = processes_read(attempt.processes)["trainer"]
    trainer.signal(signal.SIGSTOP)
    stack.call("POST", f"/runs/{run_id}/stop", {"message": "enough"})
    # TERM, once its promise is over, is not heard by a stopped process; KILL is.
    run = stack.wait_state(run_id, "stopped", within=120)
    assert run["reason"] == (
        "Stopped by admin: enough. It did not end in time and was ended by force."
    )
    assert len(alerts(stack, run_id, "stop-escalated")) == 2
    assert not trainer.alive()


def test_a_deleted_run_frees_its_directory(stack: Stack) -> None:
    run_id = stack.launch(spec(20))
    stack.wait_state(run_id, "finished", within=90)
    folder = stack.data / "runs" / run_id
    stack.wait(lambda: stack.run(run_id)["complete"], 30)
    stack.wait(lambda: (folder / "attempt-1" / "delivered.json").exists(), 30)
    taken = disk_bytes(folder)
    found = stack.call("DELETE", f"/runs/{run_id}")["items"]
    assert [one["done"] for one in found] == [None], "it answers at once"
    stack.wait(lambda: stack.call("GET", "/removals")["items"][0]["done"], 30)
    freed = stack.call("GET", "/removals")["items"]
    assert [(one["run"], one["bytes"]) for one in freed] == [(run_id, taken)] and taken > 100_000
    assert not folder.exists()
