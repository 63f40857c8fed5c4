"""The native engine in processes of its own: the same answers, weights exchanged in flight, no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import torch

from tests.trainer.engine.support import KINDS, make_policy, nothing, tiny_spec
from tests.trainer.engine.test_served import logps, move, ticket
from trainer.control import Control
from trainer.engine import generator_start, remote_generator
from trainer.engine.failure import Failure
from trainer.engine.generation import generator_make
from trainer.engine.sampler import Sampling, sample

ROOT = Path(__file__).resolve().parents[3]
SERVER = ("objective.type=grpo", "rollout.placement=server")
PROBE = [3, 4, 5, 6, 7, 3]
LONG = Sampling(400)


def made(policy, *overrides):
    return generator_make(tiny_spec(*SERVER, *overrides), policy, PROBE, nothing)


@pytest.fixture(scope="module")
def pair():
    """A policy without end tokens, so that an answer is as long as it may be, and its process."""
    policy = make_policy()
    policy.eos_ids = (1 << 20,)
    generator = made(policy)
    yield policy, generator
    generator.close()


@pytest.fixture
def policy(pair):
    return pair[0]


@pytest.fixture
def generator(pair):
    assert pair[1].stats()["depth"] == 0
    return pair[1]


def asked(policy, how=None, **words):
    return ticket(policy, how or Sampling(9, 0.8, min_p=0.02), **words)


def by(generator, asked, how=None):
    return generator.sample(
        asked.prompts, asked.keys_PS, how or asked.how, budget=asked.budget, tick=nothing
    )


def colocated(policy, asked):
    return sample(
        policy, asked.prompts, asked.keys_PS, asked.how, budget=asked.budget, tick=nothing
    )


def same(one, two):
    keys = ("prompt", "tokens", "logps", "entropies", "log_kept", "finish_reason")
    return all(
        getattr(a, key) == getattr(b, key) for a, b in zip(one, two, strict=True) for key in keys
    )


def test_it_gives_the_answers_of_the_colocated_engine_to_the_bit(policy, generator):
    for number in range(3):
        found = by(generator, asked(policy, number=number))
        assert same(found, colocated(policy, asked(policy, number=number)))
        assert {version for answer in found for version in answer.versions} == {policy.version}
        move(policy)
        policy.version += 1


def test_tickets_are_worked_on_while_the_trainer_does_other_things(policy, generator):
    generator.sync()
    tickets = {number: asked(policy, number=number) for number in (7, 8)}
    for number, each in tickets.items():
        generator.submit(number, each.prompts, each.keys_PS, each.how)
    with pytest.raises(ValueError, match="ticket 7 has been handed in"):
        generator.submit(7, [[1]], tickets[7].keys_PS[:1], LONG)
    assert generator.stats()["depth"] >= 1
    found = {}
    while len(found) < 2:
        found |= dict(generator.done())
    assert list(found) == [7, 8] and generator.done() == []
    for number, answers in found.items():
        assert same(answers, colocated(policy, tickets[number]))
    generator.submit(9, [], tickets[7].keys_PS[:0], LONG)
    assert generator.wait(9, nothing) == []
    with pytest.raises(KeyError):
        generator.wait(9, nothing)


def test_weights_are_exchanged_in_flight_and_each_token_tells_who_drew_it(policy, generator):
    exchange_in_flight(policy, generator)


def exchange_in_flight(policy, generator):
    generator.sync()
    first, whole = policy.version, asked(policy, Sampling(800), samples=1)
    states = {first: state(policy)}
    before = generator.stats()["busy_s"]
    generator.submit(1, whole.prompts, whole.keys_PS, whole.how)
    for _ in range(2):
        # Long enough for a token on a busy machine, and far from the end of the answers.
        while generator.stats()["busy_s"] < before + 0.1:
            generator.done() and pytest.fail("the answers were done before the weights moved")
        move(policy, 0.1)
        policy.version += 1
        states[policy.version] = state(policy)
        generator.push(policy.version)
        # It may move on at once: what was handed over is a copy.
        with torch.no_grad():
            for _, parameter in policy.parameters():
                parameter.mul_(3)
        put(policy, states[policy.version])
        before = generator.stats()["busy_s"]
    answers = generator.wait(1, nothing)
    drawn = [version for answer in answers for version in answer.versions]
    assert set(drawn) == set(states) and all(len(answer.tokens) == 800 for answer in answers)
    for version, weights in states.items():
        put(policy, weights)
        told = logps(policy, whole, answers)
        gaps = [
            (drawn_by == version, abs(told[number][place] - answer.logps[place]))
            for number, answer in enumerate(answers)
            for place, drawn_by in enumerate(answer.versions)
        ]
        assert max(gap for own, gap in gaps if own) < 1e-4
        assert max(gap for own, gap in gaps if not own) > 0.1
    put(policy, states[policy.version])


def state(policy):
    return {name: each.detach().clone() for name, each in policy.parameters()}


def put(policy, weights):
    with torch.no_grad():
        for name, parameter in policy.parameters():
            parameter.copy_(weights[name])


def test_who_leaves_in_the_middle_finds_it_free_again(policy, generator):
    ticks = iter(range(3))
    long = Sampling(1500)
    with pytest.raises(StopIteration):
        generator.sample(
            *(asked(policy, long).prompts, asked(policy, long).keys_PS, long),
            budget=1 << 20,
            tick=lambda: next(ticks),
        )
    assert generator.stats()["depth"] == 0
    assert same(by(generator, asked(policy)), colocated(policy, asked(policy)))


def test_it_says_what_it_has_done(policy, generator):
    before = generator.stats()
    by(generator, asked(policy, Sampling(200)))
    deadline = time.monotonic() + 10
    while (now := generator.stats())["tokens"] < before["tokens"] + 16 * 200:
        assert time.monotonic() < deadline
        generator.done()
    assert now["busy_s"] > before["busy_s"] and now["idle_s"] > 0 and now["sync_s"] > 0
    assert (now["replicas"], now["depth"], now["answers"], now["pushes"]) == (1, 0, 0, 0)


@pytest.mark.parametrize("other", ["digest", "logps"])
def test_bug_34_a_hand_over_that_fails_ends_the_run_and_says_so(
    policy, generator, monkeypatch, other
):
    generator.sync()
    policy.version += 1
    with monkeypatch.context() as patch:
        if other == "digest":
            # Other weights are written than those that are told of.
            write = remote_generator.Memory.write
            patch.setattr(remote_generator.Memory, "write", lambda *a: write(*a) ^ 1)
        else:
            patch.setattr(remote_generator, "probe_logps", lambda *_: [-1.0] * (len(PROBE) - 1))
        with pytest.raises(Failure, match="would not be the policy's") as failure:
            generator.sync()
    assert failure.value.cause == "weight-sync"
    # It was not taken for done.
    generator.sync()
    assert same(by(generator, asked(policy)), colocated(policy, asked(policy)))


def test_weights_that_have_not_moved_are_not_handed_over_again(policy, generator, monkeypatch):
    generator.sync()
    monkeypatch.setattr(generator, "push", lambda version: pytest.fail("handed over"))
    generator.sync()


def test_the_process_is_a_child_in_the_trainers_group_with_threads_that_do_not_spin(generator):
    (link,) = generator._links
    process = psutil.Process(link.pid)
    assert process.ppid() == os.getpid() and os.getpgid(link.pid) == os.getpgrp()
    environment = process.environ()
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE" and environment["OMP_NUM_THREADS"] == "1"


def test_it_does_not_tick_for_a_process_that_hangs(policy, generator, monkeypatch):
    """So that the trainer falls silent, and host looks at the whole group."""
    monkeypatch.setattr("trainer.engine.generator_link.QUIET", 0.5)
    (link,) = generator._links
    long = asked(policy, LONG, samples=1)
    generator.submit(5, long.prompts, long.keys_PS, LONG)
    os.kill(link.pid, signal.SIGSTOP)
    ticks = []

    def tick():
        ticks.append(time.monotonic())

    resumed = []

    def resume():
        resumed.append(time.monotonic())
        os.kill(link.pid, signal.SIGCONT)

    timer = threading.Timer(1.5, resume)
    timer.start()
    generator.wait(5, tick)
    timer.join()
    silent = max(b - a for a, b in pairwise(ticks))
    assert silent > 0.8 and ticks[-1] > resumed[0]


@pytest.mark.parametrize(
    ("visible", "parts", "given"),
    [
        ("", 1, ["1", "2", "3", "1"]),
        ("4,5,6,7", 1, ["5", "6", "7", "5"]),
        ("", 2, ["1,2", "3,1", "2,3", "1,2"]),
        ("6", 1, ["6", "6", "6", "6"]),
    ],
)
def test_replicas_get_other_gpus_than_the_trainer_where_there_are_others(
    monkeypatch, visible, parts, given
):
    count = len(visible.split(",")) if visible else 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    words = ("rollout.engine=vllm", f"rollout.tensor_parallel={parts}")
    spec, device = tiny_spec(*SERVER, *words), torch.device("cuda", 0)
    environments = [generator_start.environment(spec, device, number) for number in range(4)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == given
    many = tiny_spec(*SERVER, words[0], "rollout.tensor_parallel=8")
    with pytest.raises(ValueError, match=r"rollout\.tensor_parallel: .* raise resources\.gpus"):
        generator_start.environment(many, device, 0)
    assert "CUDA_VISIBLE_DEVICES" not in generator_start.environment(spec, torch.device("cpu"), 0)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["shared-memory", "broadcast"])
def test_bug_49_replicas_divide_the_prompts_and_give_the_same_answers(transport):
    policy = make_policy()
    generator = made(policy, "rollout.replicas=2", f"rollout.weight_transport={transport}")
    try:
        for _ in range(2):
            whole = asked(policy)
            found, here = by(generator, whole), colocated(policy, whole)
            assert [a.prompt for a in found] == [a.prompt for a in here]
            # Other neighbours in a batch: the last bits may differ, the draws do not.
            assert [a.tokens for a in found] == [a.tokens for a in here]
            gaps = [abs(x - y) for a, b in zip(found, here, strict=True)
                    for x, y in zip(a.logps, b.logps, strict=True)]  # fmt: skip
            assert max(gaps) < 1e-4
            move(policy)
            policy.version += 1
        assert generator.stats()["replicas"] == 2
        one = asked(policy)
        alone = generator.sample(
            one.prompts[:1], one.keys_PS[:1], one.how, budget=one.budget, tick=nothing
        )
        assert [a.tokens for a in alone] == [a.tokens for a in colocated(policy, one)[:4]]
    finally:
        generator.close()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run_with_a_sentence():
    policy = make_policy()
    generator = made(policy)
    long = asked(policy, LONG)
    generator.submit(1, long.prompts, long.keys_PS, LONG)
    pid = generator._links[0].pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Failure, match=rf"pid {pid}\) was ended by SIGKILL") as failure:
        generator.wait(1, nothing)
    assert failure.value.cause == "killed" and "lower rollout.replicas" in str(failure.value)
    generator.close()
    assert not psutil.pid_exists(pid)


@pytest.mark.slow
def test_a_trainer_that_is_killed_leaves_no_process():
    script = (
        "import time\n"
        "from tests.trainer.engine.test_remote_generator import made, make_policy\n"
        "generator = made(make_policy())\n"
        "print(generator._links[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    trainer = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid = int(trainer.stdout.readline())
    assert alive(pid)
    # A stopped process sees no closed socket: the system itself must end it.
    os.kill(pid, signal.SIGSTOP)
    trainer.kill()
    trainer.wait()
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grpo-two-updates"])
def test_a_run_equals_the_colocated_one_and_goes_on_after_a_stop(runs, stop_after, kind):
    server, before = [*KINDS[kind], "rollout.placement=server"], children()
    assert runs.run("calm", *KINDS[kind]) == 0
    stop_after(runs.dir("served"), 1, 3, Control("stop"))
    assert runs.run("served", *server) == 3
    assert runs.resume("served") == 0
    assert runs.checkpoint_bytes("calm", 6) == runs.checkpoint_bytes("served", 6)
    assert runs.metrics("calm") == runs.metrics("served")
    told = [e["data"] for e in runs.events("served", 2) if "rollout_placement" in e.get("data", {})]
    assert [data["rollout_placement"] for data in told] == ["server"]
    assert "native in a process of its own" in str(runs.events("served", 2))
    assert children() == before


def children():
    return {child.pid for child in psutil.Process().children()}
