"""Post-mortems of real trainers that fail at a planted step: what is found is what was planted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_kills import spec
from trainer.journal import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]

SICK_CALL, BROKEN_CALL = 38, 27
WITHIN = 240
"""Seconds: a trainer loads slowly on a busy machine."""
SICK = f'''
"""An objective whose {SICK_CALL}th loss is no number."""

from typing import Literal

from trainer.objectives.sft import SFT

CALLS = [0]


class PlantedSFT(SFT):
    """SFT until then."""

    type: Literal["planted-sft"] = "planted-sft"

    def loss(self, batch):
        """SFT's, or not a number."""
        found = super().loss(batch)
        CALLS[0] += 1
        if CALLS[0] == {SICK_CALL}:
            found.value = found.value * float("nan")
        return found
'''
BROKEN = f'''
"""A reward that raises in its {BROKEN_CALL}th batch."""

from typing import Literal

from trainer.registry import Answer, Reward

CALLS = [0]


class Planted(Reward):
    """One, until then."""

    type: Literal["planted"] = "planted"
    at_once = 10_000

    def score(self, answer: Answer) -> float | None:
        """One."""
        return 1.0

    def scores(self, answers):
        """Ones, or an error."""
        CALLS[0] += 1
        if CALLS[0] == {BROKEN_CALL}:
            return [1 / 0]
        return [1.0 + 0.1 * (len(answer.text) % 3) for answer in answers]
'''


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack(slots=1)
    methods = found.folder / "methods"
    for family, name, code in (("rewards", "planted", BROKEN), ("objectives", "planted_sft", SICK)):
        (methods / family).mkdir(parents=True, exist_ok=True)
        (methods / family / f"{name}.py").write_text(code)
    found.env["ANNEAL_METHODS"] = str(methods)
    try:
        found.up()
        yield found
    finally:
        found.remove()


def mortem(stack: Stack, run_id: str, attempt: int = 1) -> dict[str, Any]:
    """The post-mortem once every line has arrived, host's last word too: it alone knows the exit code."""
    path = f"/runs/{run_id}/post-mortem?attempt={attempt}"
    stack.wait(lambda: stack.call("GET", path)["exit_code"] is not None, WITHIN, "no last word")
    stack.wait(lambda: stack.lines_missing(run_id) == 0, WITHIN, "its last lines never came")
    found: dict[str, Any] = stack.call("GET", path)
    return found


def journalled(stack: Stack, run_id: str, attempt: int = 1) -> list[dict[str, Any]]:
    """The metrics lines of training in the journal on disk."""
    [found] = [one for one in stack.attempts(run_id) if one.number == attempt]
    lines = read_events(found.journal("trainer"))
    return [one for one in lines if one["type"] == "metrics" and "loss" in one["values"]]


def sft(steps: int = 60, **more: Any) -> dict[str, Any]:
    raw = spec(steps, objective={"type": "planted-sft"}, rewards=[], **more)
    raw["data"]["eval"] = []
    return raw


def test_nan_at_a_planted_step(stack: Stack) -> None:
    run_id = stack.launch(sft(), policy={"on_nan": "rollback"})
    stack.wait(lambda: stack.run(run_id)["attempt"] == 2, WITHIN)
    found = mortem(stack, run_id)
    assert (found["cause"], found["said_by"], found["exit_code"]) == ("nan", "trainer", 1)
    first = found["first"]
    assert (first["step"], first["code"], first["metric"]) == (SICK_CALL, "not-a-number", "loss")
    healthy = found["healthy"]
    assert (healthy["step"], healthy["last_step"]) == (SICK_CALL - 1, SICK_CALL - 1)
    # Every tenth step was saved.
    assert (healthy["checkpoint"]["step"], healthy["lost_steps"]) == (30, SICK_CALL - 1 - 30)
    times = {one["step"]: one["time"] for one in journalled(stack, run_id)}
    assert healthy["lost_seconds"] == pytest.approx(times[SICK_CALL - 1] - times[30], abs=0.01)
    assert (found["outcome"]["what"], found["outcome"]["rolled_back_to"]) == ("rolled-back", 30)
    assert any("became nan" in line["text"] for line in found["log"])


def test_a_reward_that_raises_at_a_planted_step(stack: Stack) -> None:
    raw = spec(60, rewards=[{"type": "planted"}])
    raw["data"]["eval"] = []
    run_id = stack.launch(raw)
    stack.wait_state(run_id, "failed", within=WITHIN)
    found = mortem(stack, run_id)
    assert (found["cause"], found["said_by"]) == ("crash", "trainer")
    assert found["message"] == "The reward planted raised ZeroDivisionError: division by zero"
    first, healthy = found["first"], found["healthy"]
    assert (first["kind"], first["code"]) == ("log", "traceback"), first
    assert first["text"] == "ZeroDivisionError: division by zero"
    done = [one["step"] for one in journalled(stack, run_id)][-1]
    assert done == BROKEN_CALL - 1
    assert (first["step"], healthy["step"], healthy["last_step"]) == (done, done, done)
    assert (healthy["checkpoint"]["step"], healthy["lost_steps"]) == (20, done - 20)
    assert found["outcome"]["what"] == "ended"
    line = stack.query("SELECT text FROM orchestrator_logline WHERE id = %s", line_of(first))
    assert line[0][0].startswith("Traceback")


def line_of(signal: dict[str, Any]) -> int:
    """The log line that a link leads to."""
    return int(signal["link"].rpartition("#line-")[2])


def test_kill_9_leaves_no_sign_and_the_last_step_is_the_journals(stack: Stack) -> None:
    run_id = stack.launch(spec(objective={"type": "sft"}, rewards=[]), max_restarts=0)
    stack.wait(lambda: stack.run(run_id)["step"] > 25, WITHIN)
    assert stack.kill_process(run_id, "trainer")
    stack.wait_state(run_id, "failed", within=WITHIN)
    found = mortem(stack, run_id)
    assert (found["cause"], found["said_by"], found["signal"]) == ("killed", "host", "SIGKILL")
    assert found["first"] is None, found["first"]
    done = journalled(stack, run_id)[-1]["step"]
    assert (found["healthy"]["step"], found["healthy"]["last_step"]) == (done, done)
    rows = stack.query(
        "SELECT max(step) FROM orchestrator_checkpoint WHERE run_id = %s AND step <= %s",
        run_id,
        done,
    )
    assert found["healthy"]["checkpoint"]["step"] == rows[0][0]
    assert found["healthy"]["lost_steps"] == done - rows[0][0]
    assert "max_restarts is 0" in found["outcome"]["words"]


def test_bad_input_has_one_before_its_first_step(stack: Stack) -> None:
    raw = spec(20)
    raw["data"]["train"] = [{"source": "/nowhere/rows.jsonl"}]
    run_id = stack.launch(raw)
    stack.wait_state(run_id, "failed", within=WITHIN)
    found = mortem(stack, run_id)
    assert (found["cause"], found["exit_code"]) == ("bad-input", 2)
    assert found["healthy"]["step"] is None and found["first"] is None
