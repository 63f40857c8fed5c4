"""Two processes on gloo do what one does: the same answers, gradients and metrics, whoever has which share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.engine.two_ranks import DIVIDED, cases, possible, session_of, step
from trainer.engine.ranks import Ranks

ROOT = Path(__file__).parents[3]
POSSIBLE = [name for name, (overrides, _) in cases().items() if possible(overrides)]
PER_RANK = ("time/", "batch/pad_frac")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What both ranks have found, computed once for all tests here."""
    out = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.engine.two_ranks", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(2)]
    gradients = [load_file(out / f"rank-{rank}.safetensors") for rank in range(2)]
    return SimpleNamespace(told=told, gradients=gradients)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same steps in this process, each computed when it is first asked for."""
    session, known = session_of(tmp_path_factory.mktemp("alone")), {}

    def found(name):
        if name not in known:
            known[name] = step(session, *cases()[name])
        return known[name]

    return found


def compared(values):
    return {key: value for key, value in values.items() if not key.startswith(PER_RANK)}


def assert_equal(one, two, name, case):
    for told, gradients in zip(two.told, two.gradients, strict=True):
        found = told["steps"][name]
        expected = one(case)
        apart = (gradients[name] - expected["gradient"]).norm() / expected["gradient"].norm().clamp(
            1e-30
        )
        assert float(apart) < 1e-6
        repeatable = [key for key in compared(expected["values"]) if not key.endswith("per_s")]
        for key in repeatable:
            assert found["values"][key] == pytest.approx(
                expected["values"][key], rel=1e-4, abs=1e-6, nan_ok=True
            ), key
        assert compared(found["values"]).keys() == compared(expected["values"]).keys()


@pytest.mark.slow
@pytest.mark.parametrize("case", POSSIBLE)
def test_two_ranks_have_the_gradient_and_the_metrics_of_one(two, alone, case):
    assert_equal(alone, two, case, case)
    if case != "quiet all":
        assert float(two.gradients[0][case].norm()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("case", DIVIDED)
def test_a_divided_model_has_them_too(two, alone, case):
    assert_equal(alone, two, f"divided {case}", case)


@pytest.mark.slow
def test_bug_49_two_ranks_draw_the_answers_that_one_draws(two, alone):
    drawn = [case for case in POSSIBLE if alone(case)["answers"] is not None]
    assert len(drawn) > 8
    for case in drawn:
        for told in two.told:
            assert told["steps"][case]["answers"] == alone(case)["answers"], case
    answers = alone("grpo token-mean")["answers"]
    assert len({len(answer) for answer in answers}) > 2, "ragged"
    assert len({tuple(answer) for answer in answers}) > len(answers) // 2


@pytest.mark.slow
def test_what_is_told_and_gathered_is_the_same_on_every_rank(two):
    for told in two.told:
        assert told["told"] == {"from": 0}
        assert told["gathered"] == [
            [{"a": [0]}, [0, float("inf")]],
            [{"a": [0, 1]}, [1, float("inf")]],
        ]
        assert told["most"] == 3
    assert two.told[0]["waited"] > 20 and two.told[1]["waited"] == 0


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 5, 16])
def test_every_thing_is_somebodys_once(size, count):
    costs = [float((7 * index) % 5 + 1) for index in range(count)]
    groups = [index // 3 for index in range(count)]
    shares = [list(Ranks(rank, size).share(count)) for rank in range(size)]
    dealt = [Ranks(rank, size).deal(costs) for rank in range(size)]
    grouped = [
        Ranks(rank, size).deal_groups(range(count), groups, [int(cost) for cost in costs])
        for rank in range(size)
    ]
    assert [index for share in shares for index in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for parts in (dealt, grouped):
        assert sorted(index for part in parts for index in part) == list(range(count))
        assert all(part == sorted(part) for part in parts)
    for group in set(groups):
        assert sum(any(groups[index] == group for index in part) for part in grouped) == 1


def test_costs_are_dealt_evenly():
    costs = [8.0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [Ranks(rank, 2).deal(costs) for rank in range(2)] == [[0], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_a_parameter_that_nobody_reached_keeps_no_gradient_and_one_process_asks_nobody():
    reached, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    reached.grad = torch.full((2,), 3.0)
    alone = Ranks()
    alone.add_gradients([reached, other])
    assert other.grad is None and reached.grad.tolist() == [3.0, 3.0]
    assert alone.told("x") == "x" and alone.most(4) == 4
