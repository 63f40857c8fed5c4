"""The small charts of the nodes page: no spike is averaged away, no gap is drawn over."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from orchestrator.models import Node, NodeReading
from orchestrator.selectors.node_history import HEIGHT, WIDTH, node_charts, readings_list


@pytest.fixture
def read(node: Node):
    now = timezone.now().replace(second=1, microsecond=0)

    def add(minutes_ago: float, **figures: float) -> None:
        time = now - timedelta(minutes=minutes_ago)
        NodeReading.objects.create(node=node, time=time, **figures)

    return add


def charts(node: Node) -> dict:
    return {chart.key: chart for chart in node_charts([node]).get(node.pk, [])}


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+),([\d.]+)", path)]


def test_a_spike_of_one_reading_reaches_the_top_of_the_band(node, read):
    for _ in range(5):
        read(10, cpu=10.0)
    read(10, cpu=100.0)
    read(9, cpu=10.0)
    chart = charts(node)["cpu"]
    assert chart.peak == 100.0
    assert min(y for _, y in points(chart.band)) == 1.0
    assert points(chart.line)[0] == (WIDTH * 49.5 / 60, HEIGHT - 1 - (HEIGHT - 2) * 0.25)


def test_missing_minutes_break_the_line(node, read):
    for minute in (30, 29, 28, 5, 4):
        read(minute, cpu=50.0)
    chart = charts(node)["cpu"]
    assert chart.line.count("M") == 2 and chart.minutes == 5
    assert chart.now is None  # the newest minute is four minutes old


def test_a_single_minute_is_seen(node, read):
    read(0, cpu=50.0)
    chart = charts(node)["cpu"]
    assert points(chart.line) == [(236.0, HEIGHT / 2), (240.0, HEIGHT / 2)] and chart.now == 50.0


def test_the_band_of_gpus_reaches_from_the_idle_to_the_busy_one(node, read):
    read(3, gpu=50.0, gpu_low=0.0, gpu_high=100.0, power=731.0)
    found = charts(node)
    assert sorted({y for _, y in points(found["gpu"].band)}) == [1.0, HEIGHT - 1]
    assert found["power"].top == 800.0 and found["power"].unit == "W"
    assert "cpu" not in found  # never told


def test_what_is_older_than_an_hour_is_not_shown(node, read):
    read(75, cpu=50.0)
    assert charts(node) == {}


def test_readings_are_listed_as_they_came(node, read):
    read(2, cpu=1.0)
    read(1, cpu=2.0)
    assert [row["cpu"] for row in readings_list(node)] == [1.0, 2.0]
