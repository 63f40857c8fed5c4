"""What the readings of a machine's heartbeats show in the minutes before an end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.models import Node, NodeReading
from orchestrator.selectors.node_signals import node_signals

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def codes(node: Node) -> Callable[..., list[tuple[str, int]]]:
    """Write readings ten seconds apart up to now; the codes that they give, with their place."""

    def read(*readings: dict[str, Any]) -> list[tuple[str, int]]:
        count = len(readings)
        for place, reading in enumerate(readings):
            moment = NOW - timedelta(seconds=10 * (count - 1 - place))
            NodeReading.objects.create(node=node, time=moment, **reading)
        found = node_signals(node, NOW - timedelta(minutes=15), NOW)
        begun = NOW.timestamp() - 10 * (count - 1)
        return [(one.code, round((one.time - begun) / 10)) for one in found]

    return read


def test_a_healthy_machine_shows_nothing(codes: Any) -> None:
    healthy = {"memory": 94.9, "gpu_memory": 97.9, "temperature": 89.0, "gpu": 99.0, "power": 400.0}
    assert codes(*[healthy] * 8) == []
    assert codes({}, {"memory": None}) == [], "what it cannot tell is nothing"


def test_ram_counts_from_where_it_is_nearly_full(codes: Any) -> None:
    assert codes({"memory": 60}, {"memory": 95}, {"memory": 99}) == [("ram-full", 1)]


def test_gpu_memory_counts_only_where_it_rose(codes: Any) -> None:
    assert codes({"gpu_memory": 70}, {"gpu_memory": 98.5}) == [("vram-full", 1)]


def test_a_gpu_that_is_filled_on_purpose_is_no_sign(codes: Any) -> None:
    assert codes({"gpu_memory": 99}, {"gpu_memory": 99}) == []


def test_heat(codes: Any) -> None:
    assert codes({"temperature": 80}, {"temperature": 91}) == [("gpu-hot", 1)]


def test_a_gpu_that_is_busy_at_idle_power_computes_nothing(codes: Any) -> None:
    busy = {"gpu": 99.0, "power": 400.0}
    assert codes(busy, busy, busy, {"gpu": 100.0, "power": 90.0}) == [("gpu-spins", 3)]


def test_idle_power_of_an_idle_gpu_is_no_sign(codes: Any) -> None:
    busy = {"gpu": 99.0, "power": 400.0}
    assert codes(busy, busy, busy, {"gpu": 3.0, "power": 90.0}) == []


def test_only_the_minutes_before_count(node: Node) -> None:
    for ago in (20, -1):
        moment = NOW - timedelta(minutes=ago)
        NodeReading.objects.create(node=node, time=moment, memory=99.0)
    assert node_signals(node, NOW - timedelta(minutes=15), NOW) == []
    assert node_signals(None, NOW, NOW) == []


def test_the_disk_of_a_silent_node_is_told_by_its_last_heartbeat(node: Node) -> None:
    node.inventory = {"disk": 1000, "disk_free": 20}
    node.last_seen = NOW - timedelta(seconds=30)
    [found] = node_signals(node, NOW - timedelta(minutes=15), NOW)
    assert (found.code, found.time) == ("disk-full", node.last_seen.timestamp())
    # A node that has spoken since tells of its disk now, not of then.
    assert node_signals(node, NOW - timedelta(minutes=15), NOW - timedelta(minutes=1)) == []
