"""Readings: one every few seconds of the last hour, from what heartbeats tell."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from orchestrator.models import NodeReading
from orchestrator.services.node_readings import figures_of, reading_note
from orchestrator.services.nodes import node_heartbeat

GIB = 2**30
GPUS = [
    {"memory": 80 * GIB, "used": 60 * GIB, "utilisation": 90, "power": 600.5, "temperature": 71},
    {"memory": 80 * GIB, "used": 20 * GIB, "utilisation": 10, "power": 99.5, "temperature": None},
]


def test_the_figures_of_all_gpus_are_put_together_and_none_is_hidden():
    found = figures_of(
        {"cpu_load": 12.5, "memory": 64 * GIB, "memory_used": 16 * GIB, "gpus": GPUS}
    )
    assert found == {
        "cpu": 12.5,
        "memory": 25.0,
        "gpu": 50.0,
        "gpu_low": 10.0,
        "gpu_high": 90.0,
        "gpu_memory": 50.0,
        "power": 700.0,
        "temperature": 71.0,
    }


def test_what_is_not_told_or_told_wrongly_is_nothing():
    odd = {"cpu_load": "x", "memory": 0, "memory_used": True, "gpus": [3, {"utilisation": 1e300}]}
    for has in ({}, odd):
        assert set(figures_of(has).values()) == {None}, has


def test_readings_come_with_heartbeats_and_go_after_an_hour(joined):
    node, now = joined(), timezone.now()
    node_heartbeat(node=node, inventory={"cpus": 1, "cpu_load": 40.0}, expect_next_in=15)
    assert NodeReading.objects.get().cpu == 40.0
    assert reading_note(node, {"cpu_load": 50.0}, now + timedelta(seconds=5)) is False
    assert reading_note(node, {"cpu_load": 60.0}, now + timedelta(seconds=10)) is True
    assert reading_note(node, {"cpu_load": 70.0}, now + timedelta(minutes=60, seconds=5)) is True
    kept = NodeReading.objects.order_by("time").values_list("cpu", flat=True)
    assert list(kept) == [60.0, 70.0]
