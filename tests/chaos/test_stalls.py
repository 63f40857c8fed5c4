"""Hangs of every process of a real installation: noticed, explained, cured, and nothing lost or blamed wrongly."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec
from trainer.journal import read_events
from trainer.processes import ProcessName, processes_read

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]

PROMISE = 20.0
GRACE = 5.0 * PROMISE / 60
DUMP = 20.0
"""Seconds for stacks, journal, ship and a busy machine."""
HANGING = '''
"""A reward that waits for ever in its 40th batch, once, as a deadlocked library does."""

import os
import signal
import time
from typing import Literal

from trainer.registry import Answer, Reward

CALLS = [0]


class Hanging(Reward):
    """One, or nothing for ever."""

    type: Literal["hanging"] = "hanging"
    marker: str = ""

    def score(self, answer: Answer) -> float | None:
        """One."""
        CALLS[0] += 1
        if CALLS[0] == 600 and not os.path.exists(self.marker):
            open(self.marker, "w").close()
            deadlocked_in_a_library()
        return 1.0


def deadlocked_in_a_library() -> None:
    # What a library does that keeps alarms for itself: nothing in Python ends this wait.
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True:
        time.sleep(3600)  # the line of the hang
'''
SLOW = '''
"""A reward that is slow in evaluations alone, and silent meanwhile."""

import signal
import time
from typing import Literal

from trainer.registry import Answer, Reward


class SlowReward(Reward):
    """One, slowly every so often."""

    type: Literal["slow-reward"] = "slow-reward"
    every: int = 64
    seconds: float = 3.0

    def score(self, answer: Answer) -> float | None:
        """One."""
        CALLS[0] += 1
        if CALLS[0] % self.every == 1:
            held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(self.seconds)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return 1.0


CALLS = [0]
'''


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack(slots=2)
    rewards = found.folder / "methods" / "rewards"
    rewards.mkdir(parents=True)
    (rewards / "hanging.py").write_text(HANGING)
    (rewards / "slow_reward.py").write_text(SLOW)
    found.env["ANNEAL_METHODS"] = str(rewards.parent)
    found.env["ANNEAL_PROMISE"] = f"{PROMISE:g}"
    found.env["ANNEAL_HUNG"] = "10"
    try:
        found.up()
        yield found
    finally:
        found.remove()


def alerts(stack: Stack, run_id: str) -> list[dict[str, Any]]:
    """Alerts of host, oldest first: what of them is in the database."""
    events = stack.call("GET", f"/runs/{run_id}/events?type=alert&per_page=500")["items"]
    return [one["data"] for one in reversed(events) if one["source"] == "host"]


def codes(stack: Stack, run_id: str) -> list[str]:
    return [str(one["code"]) for one in alerts(stack, run_id)]


def process_of(stack: Stack, run_id: str, name: str) -> ProcessName:
    attempt = stack.attempts(run_id)[-1]
    return stack.wait(lambda: processes_read(attempt.processes).get(name), 20)


def spec_of_even_steps() -> dict[str, Any]:
    """Neither saves nor evaluates: in a save a trainer may be silent for ten times as long."""
    return spec(checkpoint={"every_steps": 0}, evaluation={"every_steps": 0})


def training(stack: Stack, raw: dict[str, Any], **words: Any) -> str:
    run_id = stack.launch(raw, **words)
    stack.wait(lambda: stack.run(run_id)["step"] > 5, 90, lambda: stack.run(run_id))
    return run_id


def finish(stack: Stack, run_id: str) -> dict[str, Any]:
    """Let it end soon, and see that every line of it was stored once."""
    goal = stack.run(run_id)["step"] + 60
    stack.call("PATCH", f"/runs/{run_id}", {"knobs": {"budget.max_steps": goal}})
    run = stack.wait_state(run_id, "finished", "failed", within=120)
    stack.assert_everything_arrived(run_id)
    return run


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_stopped_trainer_is_noticed_in_time_told_with_its_stacks_and_goes_on(
    stack: Stack,
) -> None:
    run_id = training(stack, spec_of_even_steps())
    trainer = process_of(stack, run_id, "trainer")
    began = time.monotonic()
    with stopped(trainer.pid):
        stack.wait(lambda: "stall" in codes(stack, run_id), 60, lambda: stack.run(run_id))
        noticed = time.monotonic() - began
        (found,) = alerts(stack, run_id)
        expected = found["data"]["expected_s"]
        # The floor, and the time between two heartbeats.
        assert expected <= PROMISE * 9 / 8 and noticed < expected + GRACE + DUMP, (noticed, found)
        assert found["data"]["silent_s"] >= expected + GRACE
        assert "trainer/engine/loop.py" in found["data"]["stacks"], found["data"]["stacks"]
        assert found["data"]["processes"][0]["state"] == "T"
        run = stack.run(run_id)
        assert run["state"] == "running" and run["stall"]["phase"] == found["data"]["phase"]
        assert run["reason"].startswith(f"Stalled in {found['data']['phase']}: silent for ")
        # Nothing but the truth, for as long as it lasts: the sweep leaves the reason alone.
        time.sleep(5)
        assert stack.run(run_id)["reason"] == run["reason"]
    stack.wait(lambda: codes(stack, run_id) == ["stall", "stall-over"], 30)
    stack.wait(lambda: stack.run(run_id)["stall"] is None, 10)
    assert stack.run(run_id)["reason"] == ""
    assert finish(stack, run_id)["state"] == "finished"
    assert codes(stack, run_id) == ["stall", "stall-over"]


def test_a_hang_in_a_reward_is_named_by_file_and_line_and_cured_by_a_restart(stack: Stack) -> None:
    marker = str(stack.folder / "hung-once")
    reward = {"type": "hanging", "marker": marker}
    raw = spec(120, rewards=[reward], checkpoint={"every_steps": 10, "keep_last": 2})
    run_id = stack.launch(raw, policy={"on_stall": "restart"}, max_restarts=3)
    run = stack.wait_state(run_id, "finished", "failed", within=180)
    assert (run["state"], run["attempt"], run["restarts"]) == ("finished", 2, 1), run
    stall = next(one for one in alerts(stack, run_id) if one["code"] == "stall")
    assert stall["data"]["phase"] == "reward"
    line = 1 + HANGING.splitlines().index("        time.sleep(3600)  # the line of the hang")
    named = rf"deadlocked_in_a_library \(.*rewards/hanging\.py:{line}\)"
    assert re.search(named, stall["data"]["stacks"]), stall["data"]["stacks"]
    assert codes(stack, run_id)[:2] == ["stall", "stall-ended"]
    events = stack.call("GET", f"/runs/{run_id}/events?per_page=500")["items"]
    reasons = [str(one["data"].get("reason", "")) for one in events]
    assert any("Continues from its newest checkpoint (restart 1 of 3)." in one for one in reasons)
    # It went on from a checkpoint, not from the beginning.
    second = stack.attempts(run_id)[1]
    steps = [e["step"] for e in read_events(second.journal("trainer")) if e["type"] == "metrics"]
    assert min(steps) > 1
    stack.assert_everything_arrived(run_id)


def test_the_policy_acts_while_the_server_is_away(stack: Stack) -> None:
    run_id = training(stack, spec_of_even_steps(), policy={"on_stall": "stop"})
    attempt = stack.attempts(run_id)[-1]
    stack.wait(lambda: "stop" in attempt.control.read_text(), 10)
    trainer = process_of(stack, run_id, "trainer")
    web, control = stack.notes["parts"]["web"], stack.notes["parts"]["control"]
    assert stack.process is not None
    up = stack.process.pid
    with stopped(up), stopped(web[0]), stopped(control[0]):
        os.kill(trainer.pid, signal.SIGSTOP)
        stack.wait(lambda: not trainer.alive(), 60, "the policy did not act")
    run = stack.wait_state(run_id, "failed", within=90)
    assert (run["cause"], run["restarts"]) == ("stall", 0)
    assert run["reason"].startswith("Stalled in ") and "ended by force" in run["reason"]
    stack.assert_everything_arrived(run_id)


def test_a_slow_phase_whose_length_was_seen_is_no_stall(stack: Stack) -> None:
    reward = {"type": "slow-reward", "every": 1024, "seconds": 8.0}
    raw = spec(200, rewards=[reward])
    run_id = stack.launch(raw)
    run = stack.wait_state(run_id, "finished", "failed", within=240)
    assert run["state"] == "finished"
    assert codes(stack, run_id) == []
    # It was slow for longer than is waited for once enough of other phases was seen.
    events = list(read_events(stack.attempts(run_id)[0].journal("trainer")))
    times = [e["values"].get("time/reward", 0) for e in events if e["type"] == "metrics"]
    assert sum(seconds > PROMISE / 4 for seconds in times) >= 2


def test_a_ship_that_stands_still_is_replaced_and_everything_is_stored_once(stack: Stack) -> None:
    run_id = training(stack, spec())
    ship = process_of(stack, run_id, "ship")
    os.kill(ship.pid, signal.SIGSTOP)
    stack.wait(lambda: not ship.alive(), 60, "it was not ended")
    stack.wait(lambda: "ship-hung" in codes(stack, run_id), 30)
    assert finish(stack, run_id)["state"] == "finished"
    # While ship stood still, nothing was said of the trainer, which went on.
    assert codes(stack, run_id) == ["ship-hung"]


def test_a_host_that_stands_still_is_replaced_and_the_training_goes_on(stack: Stack) -> None:
    run_id = training(stack, spec())
    host, trainer = process_of(stack, run_id, "host"), process_of(stack, run_id, "trainer")
    os.kill(host.pid, signal.SIGSTOP)
    stack.wait(lambda: not host.alive(), 60, "it was not ended")
    stack.wait(lambda: "host-hung" in codes(stack, run_id), 60)
    assert trainer.alive() and process_of(stack, run_id, "trainer") == trainer
    run = finish(stack, run_id)
    assert (run["state"], run["attempt"]) == ("finished", 1)
    assert codes(stack, run_id) == ["host-hung"]


@pytest.mark.parametrize("name", ["web", "control", "node"])
def test_a_part_that_stands_still_is_started_again_and_the_training_goes_on(
    stack: Stack, name: str
) -> None:
    run_id = training(stack, spec())
    part = ProcessName(*stack.notes["parts"][name])
    os.kill(part.pid, signal.SIGSTOP)
    stack.wait(lambda: not part.alive(), 60, f"{name} was not ended")
    stack.wait(lambda: stack.notes["parts"].get(name, part) != list(part), 30)
    stack.wait(stack.healthy, 60, stack.said)
    assert f"The {name} part stands still" in (stack.folder / "up.log").read_text()
    run = finish(stack, run_id)
    assert (run["state"], run["attempt"], run["restarts"]) == ("finished", 1, 0)
    assert "stall" not in codes(stack, run_id)
