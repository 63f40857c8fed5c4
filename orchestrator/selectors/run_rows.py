"""Rows of the run list: the shape of a run, its chips and the line of its primary metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache import cache
from django.db.models import Count

from orchestrator.models import Run, State
from orchestrator.selectors.run_words import method_chips, spec_of
from orchestrator.selectors.runs import run_shape
from orchestrator.selectors.series import series_read

if TYPE_CHECKING:
    from collections.abc import Iterable

SPARK_POINTS = 48
SPARK_WIDTH, SPARK_HEIGHT = 96, 20
SPARK_SECONDS = 3600
SHOWN_TAGS = 12


def run_rows(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """What the template needs of each run."""
    return [run_row(run) for run in runs]


def run_row(run: Run) -> dict[str, Any]:
    """One row."""
    shape = run_shape(run)
    primary = shape.get("primary") or {}
    values = spark_values(run, str(primary.get("key", "")))
    return {
        **shape,
        "chips": method_chips(spec_of(run)),
        "spark": {"values": values, "path": spark_path(values)},
    }


def spark_values(run: Run, key: str) -> list[float]:
    """The finite values of a metric, thinned for a line of 96 pixels; kept until the run moves on."""
    if not key or (not run.step and not run.latest):
        return []
    name = f"spark:{run.pk}:{key}:{run.attempt}:{run.step}"
    values: list[float] | None = cache.get(name)
    if values is None:
        series = series_read(run=run, keys=[key], points=SPARK_POINTS).get(key, {})
        values = [y for y in series.get("y", []) if isinstance(y, (int, float)) and abs(y) < 1e300]
        cache.set(name, values, SPARK_SECONDS)
    return values


def spark_path(values: list[float]) -> str:
    """The points of an SVG polyline that fills the line's box."""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (SPARK_WIDTH - 4) / max(1, len(values) - 1)
    inner = SPARK_HEIGHT - 4
    middle = SPARK_HEIGHT / 2
    return " ".join(
        f"{2 + index * step:.1f},"
        f"{middle if high == low else SPARK_HEIGHT - 2 - (value - low) / span * inner:.1f}"
        for index, value in enumerate(values)
    )


def state_counts() -> list[dict[str, Any]]:
    """How many runs each state has, in the order of a run's life, without empty ones."""
    shown = Run.objects.filter(archived=None)
    counts = dict(shown.values_list("state").annotate(Count("pk")).order_by())
    return [{"state": state, "count": counts[state]} for state in State.values if counts.get(state)]


def tags_in_use() -> list[str]:
    """The commonest tags."""
    counts: dict[str, int] = {}
    for tags in (
        Run.objects.filter(archived=None)
        .exclude(tags=[])
        .order_by("-created")
        .values_list("tags")[:500]
    ):
        for tag in tags[0]:
            counts[tag] = counts.get(tag, 0) + 1
    return sorted(counts, key=lambda tag: (-counts[tag], tag))[:SHOWN_TAGS]
