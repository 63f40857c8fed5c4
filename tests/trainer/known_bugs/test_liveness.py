"""A run that hangs is heard, obeys within two seconds wherever it is, and never waits without end."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import pytest

from trainer import expectation
from trainer.control import Control
from trainer.engine import (
    checkpoint,
    collect,
    evaluate,
    generation,
    job,
    models,
    online,
    patience,
    progress,
)
from trainer.engine import loop as loop_module
from trainer.registry import family

LONG = [
    "objective.type=grpo",
    "rollout.group_size=8",
    "rollout.max_new_tokens=400",
    "data.max_tokens=600",
    "budget.max_steps=1000",
    "checkpoint.every_steps=1",
    "rewards.1.max_tokens=500",
]
PHASES = {
    "load": (job, "parts_load"),
    "rollout": (generation, "sample"),
    "reward": (collect, "score"),
    "update": (loop_module, "optimizer_step"),
    "evaluation": (evaluate.Evaluation, "values"),
    "checkpoint": (checkpoint, "publish"),
}
"""Where the order to stop is given: shortly after this was entered."""


def slow_end(policy):
    """End tokens that are never drawn: every answer has its full length."""
    policy.eos_ids = (10**6,)
    return policy


@pytest.mark.parametrize("phase", PHASES)
def test_bug_47_an_order_to_stop_is_obeyed_within_two_seconds(runs, monkeypatch, phase):
    place, name = PHASES[phase]
    work, given, done = getattr(place, name), [], []
    options = list(LONG)
    make = models.policy_make
    if phase in ("rollout", "update", "evaluation"):
        monkeypatch.setattr(models, "policy_make", lambda *given: slow_end(make(*given)))
    if phase == "rollout":
        options += ["data.eval=[]"]
    if phase == "update":
        options += ["batch.tokens_per_microbatch=1", "rollout.max_new_tokens=40"]
        options += ["rollout.group_size=64", "batch.prompts_per_step=10", "data.eval=[]"]
        forward = online.token_scores

        def slow(*words, **named):
            time.sleep(0.01)
            return forward(*words, **named)

        monkeypatch.setattr(online, "token_scores", slow)
    if phase == "reward":
        options += ["rollout.max_new_tokens=4", "data.eval=[]"]
        score = family("rewards")["exact-match"].score

        def slow_score(self, answer):
            time.sleep(0.3)
            return score(self, answer)

        monkeypatch.setattr(family("rewards")["exact-match"], "score", slow_score)
    if phase == "evaluation":
        options += ["evaluation.samples_per_prompt=64"]

    def order():
        given.append(time.monotonic())
        Control("stop", "user", "enough").write(runs.dir("run").attempt(1).control)

    def entered(*words, **named):
        if not given and not done:
            timer = threading.Timer(0.0 if phase in ("load", "checkpoint") else 0.3, order)
            done.append(timer)
            timer.start()
            if phase in ("load", "checkpoint"):
                timer.join()
        return work(*words, **named)

    monkeypatch.setattr(place, name, entered)
    code = runs.run("run", *options)
    ended = time.monotonic()
    done[0].join()
    assert code == 3
    assert runs.end("run")["message"] == "enough"
    assert ended - given[0] < 2


@pytest.mark.parametrize("phase", ["rollout", "reward", "update", "evaluation"])
def test_bug_47_long_work_is_heard_of_while_it_goes_on(runs, monkeypatch, phase):
    """No line of the journal comes later than the line before it promised."""
    monkeypatch.setattr(progress, "HEARTBEAT", 0.0)  # every tick is heard
    calls, inside = [], []
    place, name = PHASES[phase]
    work = getattr(place, name)

    def noted(*words, **named):
        inside.append(True)
        try:
            return work(*words, **named)
        finally:
            inside.pop()

    append = progress.Report._append

    def count(self, type, **fields):
        if type == "heartbeat" and inside:
            calls.append(fields)
        append(self, type, **fields)

    if phase == "reward":
        monkeypatch.setattr(
            family("rewards")["exact-match"], "score", lambda self, answer: time.sleep(0.005)
        )
    monkeypatch.setattr(place, name, noted)
    monkeypatch.setattr(progress.Report, "_append", count)
    options = ["budget.max_steps=2", "batch.tokens_per_microbatch=1", "rollout.group_size=8"]
    assert runs.run("run", "objective.type=grpo", *options) == 0
    assert len(calls) > 3 and all(fields["expect_next_in"] > 0 for fields in calls)
    events = runs.events("run")
    for before, after in itertools.pairwise(events):
        assert after["time"] - before["time"] < before.get("expect_next_in", expectation.ORDINARY)


HUNG = 8.0
"""Seconds; without a limit two answers take twice that, and the run then ends well."""


def hang(self, answer):
    """As a reward that waits for a server without a time-out (for ever, as the test sees it)."""
    time.sleep(HUNG)


def hang_and_catch(self, answer):
    """One that catches everything, and tries again."""
    for _ in range(int(10 * HUNG)):
        try:
            time.sleep(0.1)
        except Exception:
            continue


def hang_in_python(self, answer):
    end = time.monotonic() + HUNG
    while time.monotonic() < end:
        pass


HANGS = [hang, hang_and_catch, hang_in_python]


@pytest.mark.parametrize("reward", HANGS, ids=lambda reward: reward.__name__)
def test_bug_47_a_reward_that_hangs_ends_the_run_with_a_sentence(runs, monkeypatch, reward):
    exact = family("rewards")["exact-match"]
    monkeypatch.setattr(patience, "LOOK", 0.05)
    monkeypatch.setattr(progress, "HEARTBEAT", 0.05)
    monkeypatch.setattr(exact, "time_limit", 0.5)
    monkeypatch.setattr(exact, "score", reward)
    options = ["data.eval=[]", "budget.max_steps=1", "batch.prompts_per_step=1"]
    assert runs.run("run", "objective.type=grpo", "rollout.group_size=2", *options) == 2
    end = runs.end("run")
    assert (end["state"], end["cause"]) == ("failed", "bad-input")
    assert "exact-match has worked for more than 0.5 s" in end["message"]
    # It was heard of while it hung, as a watchdog wants.
    beats = [event for event in runs.events("run") if event["type"] == "heartbeat"]
    assert len(beats) > 3
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_bug_47_an_order_to_stop_reaches_a_reward_that_hangs(runs, monkeypatch):
    given = []

    def order():
        given.append(time.monotonic())
        Control("stop", "user", "enough").write(runs.dir("run").attempt(1).control)

    def hang_once_asked(self, answer):
        if not given:
            threading.Timer(0.2, order).start()
        time.sleep(HUNG)

    monkeypatch.setattr(family("rewards")["exact-match"], "score", hang_once_asked)
    assert runs.run("run", "objective.type=grpo", "data.eval=[]") == 3
    assert time.monotonic() - given[0] < 2
    assert runs.end("run")["message"] == "enough"


def test_bug_47_a_reward_that_is_slow_but_not_hung_is_left_alone(runs, monkeypatch):
    monkeypatch.setattr(patience, "LOOK", 0.01)
    exact = family("rewards")["exact-match"]
    score = exact.score
    monkeypatch.setattr(exact, "time_limit", 5.0)

    def slow(self, answer):
        time.sleep(0.03)
        return score(self, answer)

    monkeypatch.setattr(exact, "score", slow)
    short = ["objective.type=grpo", "data.eval=[]", "budget.max_steps=2"]
    assert runs.run("slow", *short) == 0
    monkeypatch.setattr(exact, "score", score)
    assert runs.run("quick", *short) == 0
    assert runs.metrics("slow") == runs.metrics("quick")
