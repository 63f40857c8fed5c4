"""Whole runs that draw ahead, with a generator's process: never too old, told in samples, resumed, alarmed."""

from __future__ import annotations

import pytest

from trainer import spans
from trainer.journal import read_events

pytestmark = pytest.mark.slow
SERVER = ["objective.type=grpo", "rollout.placement=server", "evaluation.every_steps=0"]
AHEAD = [*SERVER, "rollout.max_staleness=2"]
PLAIN = ["correction.old_policy=sampler"]


def curve(runs, name, key, attempt=1):
    events = runs.events(name, attempt)
    return {e["step"]: e["values"][key] for e in events if key in e.get("values", {})}


def samples(runs, name, attempt=1):
    return list(read_events(runs.dir(name).attempt(attempt).journal("samples")))


def test_without_staleness_a_generators_process_changes_nothing(runs):
    """The same run to the bit: the same answers, gradients and weights."""
    assert runs.run("here", "objective.type=grpo", "evaluation.every_steps=0") == 0
    assert runs.run("there", *SERVER) == 0
    assert (
        runs.checkpoint_bytes("here", 6)["model.safetensors"]
        == (runs.checkpoint_bytes("there", 6)["model.safetensors"])
    )
    assert {s["policy_version"] for s in samples(runs, "there")} <= set(range(6))


@pytest.mark.parametrize("correction", [PLAIN, []], ids=["two-policies", "three-policies"])
def test_a_run_that_draws_ahead_is_as_stale_as_it_may_be_and_no_more(runs, correction):
    assert runs.run("ahead", *AHEAD, *correction, "budget.max_steps=8") == 0
    assert runs.end("ahead")["state"] == "finished"
    stale = curve(runs, "ahead", "sample/staleness_max")
    assert sorted(stale) == list(range(1, 9))
    # The first batch is drawn by the weights that learn from it; then it runs ahead as far as it may.
    assert stale[1] == 0 and max(stale.values()) <= 2
    mean = curve(runs, "ahead", "sample/staleness_mean")
    assert 0 < max(mean.values()) <= 2 and all(mean[step] <= stale[step] for step in mean)
    told = samples(runs, "ahead")
    assert told and all(0 <= s["step"] - 1 - s["policy_version"] <= 2 for s in told)
    wait, whole = curve(runs, "ahead", "time/wait"), curve(runs, "ahead", "time/step")
    assert all(0 <= wait[step] <= whole[step] for step in wait)
    rollout = curve(runs, "ahead", "time/rollout")
    assert set(rollout.values()) == {0.0}
    # lr 1e-2: the weights of an answer's start and of its turn are far apart.
    assert max(curve(runs, "ahead", "gen_kl_error").values()) > 1e-3
    (alarm,) = [e for e in runs.events("ahead") if e.get("code") == "mismatch"][:1]
    assert "old" in alarm["message"]
    # By default stale answers are weighed: three policies.
    assert bool(curve(runs, "ahead", "correction/capped_frac")) is (correction == [])


def test_a_run_that_draws_ahead_goes_on_where_it_stopped(runs):
    """What was drawn ahead is drawn anew: every row is learned from once, in order."""
    assert runs.run("ahead", *AHEAD, "budget.max_steps=4") == 0
    assert runs.resume("ahead", "budget.max_steps=8") == 0
    epochs = curve(runs, "ahead", "epoch") | curve(runs, "ahead", "epoch", 2)
    assert [round(epochs[step] * 10) for step in range(1, 9)] == [4 * n for n in range(1, 9)]
    told = samples(runs, "ahead", 2)
    # Weights are counted by the run's steps, not by the attempt's.
    assert told and min(s["policy_version"] for s in told) >= 4


def test_the_plan_shows_what_the_generator_does_meanwhile(runs, monkeypatch):
    monkeypatch.setattr(spans, "EVERY", 0.0)
    assert runs.run("ahead", *AHEAD, "budget.max_steps=40", "rollout.max_new_tokens=24") == 0
    lines = [e for e in runs.events("ahead") if e["type"] == "spans" and e["steps"]]
    own = {line["step"]: line for line in lines if line["process"] == "trainer"}
    beside = {line["step"]: line for line in lines if line["process"] == "generator"}
    # It tells of itself every quarter of a second: of the last steps nobody knows.
    assert sorted(own) == list(range(1, 41)) and len(beside) >= 10
    for step, line in beside.items():
        phases = {phase for phase, _, _ in line["spans"]}
        assert phases <= {"rollout", "wait", "sync"}
        assert line["start"] >= own[step]["start"] - 1e-3
        assert line["start"] + line["spans"][-1][2] <= end_of(own[step]) + 1e-3
    # Two roads to the same share: spans, and the counters of the process.
    drawn = sum(spent(line, "rollout") for line in beside.values())
    share = drawn / sum(end_of(line) - line["start"] for line in beside.values())
    told = curve(runs, "ahead", "generator/busy_frac")
    assert share == pytest.approx(sum(told.values()) / len(told), abs=0.25) and share > 0


def end_of(line):
    return line["start"] + line["spans"][-1][2]


def spent(line, phase):
    return sum(end - start for name, start, end in line["spans"] if name == phase)


def test_several_updates_on_a_batch_count_as_one(runs):
    assert runs.run("ahead", *AHEAD, "batch.minibatches=2", "budget.max_steps=12") == 0
    stale = curve(runs, "ahead", "sample/staleness_max")
    assert sorted(stale) == [1, 3, 5, 7, 9, 11] and 0 < max(stale.values()) <= 2


def test_greedy_baselines_are_refused_with_a_sentence(runs):
    code = runs.run("greedy", *AHEAD, "advantage.type=remax")
    assert code == 2
