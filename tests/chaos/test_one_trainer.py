"""Exactly one trainer process for one launch, whatever is sent twice; and a run that gives way comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.stack import MANAGE, Stack, _opener
from tests.chaos.test_kills import finished, spec, trains
from trainer.journal import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack(slots=1)
    try:
        found.up()
        yield found
    finally:
        found.remove()


@pytest.fixture
def second_control(stack: Stack) -> Iterator[list[int]]:
    """Two more control workers beside the one of `up`: three schedulers plan at the same time."""
    started = [
        subprocess.Popen(
            [sys.executable, MANAGE, "control"],
            env=stack.env,
            cwd=PROJECT_DIR,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    yield [one.pid for one in started]
    for one in started:
        one.kill()
        one.wait()


class Watcher(threading.Thread):
    """Notes every trainer process that is ever seen below a run directory: pid, start, run."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.runs = str(stack.data / "runs")
        self.seen: set[tuple[int, float, str]] = set()
        self.most: Counter[str] = Counter()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            now: Counter[str] = Counter()
            for process in psutil.process_iter(["pid", "create_time", "cmdline"]):
                line = process.info["cmdline"] or []
                # Not the host, whose own command line ends with that of its trainer.
                if line[1:4] == ["-m", "trainer", "resume"]:
                    run = next((part for part in line if part.startswith(self.runs)), "")
                    if run:
                        name = run.rpartition("/")[2]
                        self.seen.add((process.info["pid"], process.info["create_time"], name))
                        now[name] += 1
            self.most |= now

    def trainers(self, run_id: str) -> int:
        return sum(1 for _, _, run in self.seen if run == run_id)


def post(stack: Stack, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"{stack.notes['url']}api/runs",
        method="POST",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {stack.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    try:
        with _opener.open(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def deliver_again(stack: Stack, run_id: str, attempt: int, times: int) -> None:
    """Put the node's order into its queue again, as a broker does that delivers twice."""
    code = (
        "import django; django.setup();"
        "from orchestrator.services.dispatch import launch_send;"
        f"assert all(launch_send(node_name={local_node(stack)!r}, run_id={run_id!r}, "
        f"attempt={attempt}) for _ in range({times}))"
    )
    subprocess.run([sys.executable, "-c", code], env=stack.env, cwd=PROJECT_DIR, check=True)


def local_node(stack: Stack) -> str:
    return str(stack.call("GET", "/nodes")["items"][0]["name"])


def starts(stack: Stack, run_id: str) -> list[int]:
    """The attempt of every model that a trainer of this run has announced: once per process."""
    return [
        attempt.number
        for attempt in stack.attempts(run_id)
        for event in read_events(attempt.journal("trainer"))
        if event["type"] == "status" and "parameters" in event.get("data", {})
    ]


def test_ten_launches_with_one_key_three_schedulers_and_doubled_messages_make_one_trainer(
    stack: Stack, second_control: list[int]
) -> None:
    watcher = Watcher(stack)
    watcher.start()
    gate, answers = threading.Barrier(10), []
    body = {"spec": spec()}

    def launch() -> None:
        gate.wait()
        answers.append(post(stack, body, "the same key"))

    threads = [threading.Thread(target=launch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {answer["id"] for _, answer in answers}
    assert [status for status, _ in answers] == [201] * 10
    assert len(ids) == 1 and stack.call("GET", "/runs")["count"] == 1
    run_id = ids.pop()
    deliver_again(stack, run_id, 1, 5)
    stack.wait(lambda: trains(stack, run_id), 120, lambda: stack.said())
    deliver_again(stack, run_id, 1, 5)
    deliver_again(stack, run_id, 2, 1)
    # A second one in the line is looked at by all schedulers while the first one trains.
    other = stack.launch(spec(5))
    stack.wait(lambda: stack.run(other)["place"] == 1, 30, lambda: str(stack.run(other)))
    assert "Waits for a free slot" in stack.run(other)["reason"]
    for pid in second_control:
        assert psutil.pid_exists(pid)
    step = stack.run(run_id)["step"] + 20
    stack.call("PATCH", f"/runs/{run_id}", {"knobs": {"budget.max_steps": step}})
    finished(stack, run_id)
    finished(stack, other)
    watcher.done.set()
    watcher.join()
    for one in (run_id, other):
        assert starts(stack, one) == [1], "a trainer began more than once"
        assert watcher.trainers(one) == 1 and watcher.most[one] == 1
        rows = stack.query("SELECT COUNT(*) FROM orchestrator_attempt WHERE run_id = %s", one)
        assert rows == [(1,)]


def test_a_run_gives_way_by_a_checkpoint_and_comes_back_from_it(stack: Stack) -> None:
    low = stack.launch(spec(), preemptible=True)
    stack.wait(lambda: trains(stack, low), 120, lambda: stack.said())
    urgent = stack.launch(spec(30), priority=5)
    stack.wait(lambda: stack.run(low)["cause"] == "preempted", 90, lambda: str(stack.run(low)))
    shown = stack.run(low)
    assert (shown["state"], shown["restarts"]) == ("queued", 0)
    saved = stack.call("GET", f"/runs/{low}/checkpoints")["items"][0]["step"]
    assert saved == shown["step"] > 0
    finished(stack, urgent)
    stack.wait(lambda: trains(stack, low) and stack.run(low)["attempt"] == 2, 120)
    began = [
        event["step"]
        for event in read_events(stack.attempts(low)[-1].journal("trainer"))
        if event["type"] == "metrics"
    ]
    assert began and began[0] >= saved, "it went on from its checkpoint"
    step = stack.run(low)["step"] + 20
    stack.call("PATCH", f"/runs/{low}", {"knobs": {"budget.max_steps": step}})
    finished(stack, low)
    assert starts(stack, low) == [1, 2]
