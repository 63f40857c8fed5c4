"""Clusters that live through time: nothing starves, nothing deadlocks, promises hold, gangs come whole.

`ANNEAL_SCALE=1` lives through 300 clusters of each kind; the default is a fifth of it.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from orchestrator.planner.facts import Demand, Gpu, Machine
from tests.orchestrator.planner.clusters import GIB, OWNERS, Simulation, cluster_of, fitting

CLUSTERS = max(10, round(300 * float(os.environ.get("ANNEAL_SCALE") or 0.2)))


def some_run(chance: random.Random, cluster, number: int, gangs: bool = True) -> Demand:
    """A run that fits the cluster in principle."""
    while True:
        one = Demand(
            run=f"r{number:03}",
            owner=chance.choice(OWNERS),
            age=0.0,
            priority=chance.choice([0, 0, 0, 2]),
            gpus=chance.choice([None, 0, 1, 1, 2, 4, 8]),
            memory=chance.choice([0, 0, 16 * GIB, 40 * GIB]),
            machines=chance.choice([1, 1, 1, 2, 3]) if gangs else 1,
        )
        one = replace(one, fits=fitting(one, cluster))
        if len(one.fits) >= one.machines:
            return one


@pytest.mark.parametrize("tells", [True, False], ids=["bounded", "unknown"])
def test_every_run_of_many_random_clusters_ends_gangs_and_preemption_included(tells):
    gangs = preempted = 0
    for seed in range(CLUSTERS):
        chance = random.Random(seed)
        cluster = cluster_of(chance)
        life = Simulation(cluster, tells=tells)
        for number in range(chance.randint(5, 40)):
            one = some_run(chance, cluster, number)
            gangs += one.machines > 1
            work = float(chance.randint(1, 2000))
            life.launch(one, work, at=float(chance.randint(0, 3000)), yields=chance.random() < 0.3)
        life.run()
        assert life.ended.keys() == life.work.keys(), f"seed {seed}: some never ran"
        preempted += len(life.preempted)
    assert gangs > CLUSTERS and preempted > CLUSTERS / 10, "the clusters were too easy"


def test_the_first_of_the_line_starts_no_later_than_it_was_promised():
    """One owner, one priority: who comes later stands behind, and may pass only without moving it."""
    kept = 0
    for seed in range(CLUSTERS):
        chance = random.Random(seed)
        cluster = cluster_of(chance)
        life = Simulation(cluster)
        for number in range(40):
            one = replace(some_run(chance, cluster, number), owner="ada", priority=0)
            life.launch(one, float(chance.randint(1, 2000)), at=float(number * 20))
        life.run()
        for run, promise in life.first_promise.items():
            assert life.began[run] <= promise + 1e-6, f"seed {seed}: {run} came later than promised"
            kept += 1
    assert kept > CLUSTERS


@pytest.mark.parametrize("tells", [True, False], ids=["bounded", "unknown"])
def test_a_stream_of_small_runs_does_not_starve_a_big_one(tells):
    """Small runs keep seven or eight of eight GPUs busy; one that needs all of them starts all the same."""
    machine = Machine("m", 8, tuple(Gpu(i, 80 * GIB) for i in range(8)))
    for seed in range(10):
        chance = random.Random(seed)
        life = Simulation((machine,), tells=tells)
        small = Demand("", "ada", 0.0, gpus=1, fits=frozenset({"m"}))
        for number in range(400):
            work = float(chance.randint(100, 200))
            life.launch(replace(small, run=f"s{number}"), work, at=number * 20.0)
        life.launch(replace(small, run="big", gpus=8), 50.0, at=500.5)
        life.run()
        # Those at work when it came have at most 200 s left, and so has nobody who passed it.
        assert life.began["big"] <= 500.5 + 200.0


def test_a_stream_of_another_owners_runs_does_not_starve_it_either():
    machine = Machine("m", 4, tuple(Gpu(i, 80 * GIB) for i in range(4)))
    life = Simulation((machine,), tells=False)
    small = Demand("", "bob", 0.0, gpus=1, fits=frozenset({"m"}))
    for number in range(300):
        life.launch(replace(small, run=f"s{number}"), 100.0, at=number * 20.0)
    life.used = {"ada": 20_000.0}
    life.launch(replace(small, run="big", owner="ada", gpus=4), 50.0, at=100.0)
    life.run()
    # The share of bob, who holds four GPUs, passes hers soon; what he then gives back counts no more.
    assert life.began["big"] < 2000.0, "shares went to and fro, and machines were emptied in vain"
