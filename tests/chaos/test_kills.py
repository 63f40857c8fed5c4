"""kill -9 of any process at any moment: nothing is lost, nothing doubled, and the state comes true.

`ANNEAL_SCALE=1` kills each kind ten times; the default is a fifth of it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]

KILLS = max(1, round(10 * float(os.environ.get("ANNEAL_SCALE") or 0.2)))
MORE_THAN_ENOUGH = 100
ENDLESS = 1_000_000
PATIENCE = 62.0
"""`up` gives a part up that dies five times within a minute."""


def spec(steps: int = ENDLESS, **more: Any) -> dict[str, Any]:
    """A tiny run that trains, samples, evaluates and saves."""
    return {
        "name": "chaos",
        "model": {"name": "starter", "options": {"hidden_size": 32, "layers": 1, "heads": 2}},
        "data": {
            "train": [{"source": "noisy-sort", "limit": 512}],
            "eval": [{"source": "noisy-sort", "split": "test", "limit": 8}],
            "max_prompt_tokens": 32,
            "max_tokens": 48,
        },
        "objective": {"type": "grpo"},
        "rewards": [{"type": "exact-match"}],
        "rollout": {"group_size": 4, "max_new_tokens": 8},
        "batch": {"prompts_per_step": 4},
        "budget": {"max_steps": steps},
        "evaluation": {"every_steps": 50},
        "checkpoint": {"every_steps": 10},
        **more,
    }


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack()
    try:
        found.up()
        yield found
    finally:
        found.remove()


@pytest.fixture(autouse=True)
def slot_free_again(stack: Stack) -> Iterator[None]:
    """A test that fails must not keep the only slot."""
    yield
    for run in stack.call("GET", "/runs?state=queued,starting,running,lost")["items"]:
        stack.call("POST", f"/runs/{run['id']}/stop", {})


def trains(stack: Stack, run_id: str) -> bool:
    run = stack.run(run_id)
    assert run["state"] in ("queued", "starting", "running", "lost"), run
    return run["state"] == "running" and run["step"] > 0


def finish(stack: Stack, run_id: str) -> dict[str, Any]:
    """Let the run end soon, wait for it, and compare every line."""
    step = stack.run(run_id)["step"] + 150
    stack.call("PATCH", f"/runs/{run_id}", {"knobs": {"budget.max_steps": step}})
    return finished(stack, run_id)


def finished(stack: Stack, run_id: str) -> dict[str, Any]:
    """Wait until the run has finished, and compare every line."""
    run = stack.wait_state(run_id, "finished", "failed", "stopped", within=240)
    assert (run["state"], run["cause"]) == ("finished", "finished"), run
    stack.assert_everything_arrived(run_id)
    # Host's last word may arrive before the backlog of a killed ship; the step is true once all is there.
    run = stack.run(run_id)
    newest = stack.call("GET", f"/runs/{run_id}/checkpoints")["items"][0]
    assert (newest["step"], newest["final"]) == (run["step"], True)
    return run


class Pace:
    """Waits so that no part dies five times within a minute."""

    def __init__(self) -> None:
        self.deaths: dict[str, list[float]] = {}

    def wait(self, part: str) -> None:
        """Wait until one more death of this part is allowed, and count it."""
        before = self.deaths.setdefault(part, [])
        if len(before) >= 4:
            time.sleep(max(0.0, before[-4] + PATIENCE - time.monotonic()))
        before.append(time.monotonic())


@pytest.mark.parametrize("part", ["web", "node", "control", "database"])
def test_a_training_runs_through_kills_of_a_part(stack, part):
    chance, pace = random.Random(part), Pace()
    run_id = stack.launch(spec())
    stack.wait(lambda: trains(stack, run_id), 90)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, 2.0))
        pace.wait(part)
        stack.wait(lambda: stack.kill_part(part), 30, f"{part} was not started again")
        time.sleep(0.5)
        stack.wait(stack.healthy, 60, lambda: f"{part} did not come back:\n{stack.said()}")
    run = finish(stack, run_id)
    assert run["attempt"] == 1, f"{part} must never disturb a training"


@pytest.mark.parametrize("victim", ["trainer", "host", "ship"])
def test_a_run_goes_on_after_kills_of_its_own_processes(stack, victim):
    chance = random.Random(victim)
    run_id = stack.launch(spec(), max_restarts=MORE_THAN_ENOUGH)
    for _ in range(KILLS):
        stack.wait(lambda: trains(stack, run_id), 90)
        time.sleep(chance.uniform(0.1, 2.0))
        stack.wait(lambda: stack.kill_process(run_id, victim), 60, f"no {victim} came back")
        time.sleep(1.0)
    stack.wait(lambda: trains(stack, run_id), 90)
    run = finish(stack, run_id)
    if victim == "trainer":
        assert run["attempt"] == KILLS + 1 and run["restarts"] == KILLS
    else:
        assert run["attempt"] == 1, f"a {victim} must never take the training with it"


def test_everything_dies_now_and_then(stack):
    chance, pace = random.Random(7), Pace()
    run_id = stack.launch(spec(), max_restarts=MORE_THAN_ENOUGH)
    stack.wait(lambda: trains(stack, run_id), 90)
    for _ in range(KILLS):
        for victim in chance.sample(["web", "node", "control", "database", "trainer", "host"], 3):
            if victim in ("trainer", "host"):
                stack.kill_process(run_id, victim)
            else:
                pace.wait(victim)
                stack.kill_part(victim)
            time.sleep(chance.uniform(0.0, 1.0))
        stack.wait(stack.healthy, 60, "it did not come back")
    stack.wait(lambda: trains(stack, run_id), 120)
    finish(stack, run_id)


def test_ctrl_c_saves_and_the_next_start_goes_on(stack):
    run_id = stack.launch(spec(checkpoint={"every_steps": 0}))
    stack.wait(lambda: trains(stack, run_id), 90)
    time.sleep(2)
    assert stack.down(signal.SIGINT) == 0
    steps = [attempt.path.parent / "checkpoints" for attempt in stack.attempts(run_id)]
    assert any(folder.glob("step-*/manifest.json") for folder in steps)
    stack.up()
    stack.wait(lambda: trains(stack, run_id), 90)
    run = finish(stack, run_id)
    assert (run["attempt"], run["restarts"]) == (2, 0)


def test_a_killed_up_leaves_the_training_and_the_next_one_adopts_it(stack):
    run_id = stack.launch(spec())
    stack.wait(lambda: trains(stack, run_id), 90)
    stack.down(signal.SIGKILL)
    time.sleep(3)
    stack.up()
    assert finish(stack, run_id)["attempt"] == 1
