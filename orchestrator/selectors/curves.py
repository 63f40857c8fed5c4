"""Collect what a curve shows: whole blocks by their picks, and every point where that is not enough.

Each stored point has a number: its place among those of its attempt, behind those of earlier attempts,
which are rounded up to whole grains. Buckets are spans of such numbers, so it makes no difference whether
points are still in chunks, in small blocks or in full ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator import blocks
from orchestrator.blocks import POINT
from orchestrator.selectors.points import (
    BlockKey,
    Stored,
    columns_read,
    keys_of,
    pairs_read,
    picks_read,
)
from orchestrator.selectors.thinning import bits_for, spans_of, thin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NUMBERED = np.dtype([("number", "<i8"), ("attempt", "<i4"), *POINT.descr])


@dataclass(frozen=True)
class Window:
    """What part of a run is asked for; both ends included, None where there is no end."""

    axis: str
    """ "step" or "time"."""
    low: float | None = None
    high: float | None = None
    attempt: int | None = None
    upto: tuple[int, int] | None = None
    """Leaves out what was stored behind (attempt, seq)."""

    def inside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which places of the axis lie inside."""
        found = np.ones(len(values), bool)
        if self.low is not None:
            found &= values >= self.low
        if self.high is not None:
            found &= values <= self.high
        return found


@dataclass(frozen=True)
class Curve:
    """Points to draw, in the order of their numbers, and what they stand for."""

    points: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    total: int
    missing: int
    reduced: bool

    def cut(self, inside: NDArray[np.bool_], most: int) -> Curve:
        """The part of a curve of all points that lies inside, with at most `most` points."""
        points = self.points[inside]
        values = points["value"]
        missing = int(np.isnan(values).sum())
        if len(points) <= most:
            return Curve(points, values, values, len(points), missing, reduced=False)
        bits = bits_for(spans_of(points["number"]), most)
        return _thinned(points, bits, points["step"], None, len(points), missing)


def _thinned(
    points: NDArray[Any],
    bits: int,
    x: NDArray[Any],
    close: NDArray[np.bool_] | None,
    total: int,
    missing: int,
) -> Curve:
    thinned = thin(points["number"], points["value"], bits, x, close)
    return Curve(points[thinned.places], thinned.low, thinned.high, total, missing, reduced=True)


def curves_read(stored: Sequence[Stored], window: Window, most: int | None) -> list[Curve]:
    """The curve of each series with at most `most` points (all of them when None).

    Raises BlocksMoved when a block is gone since its head was read.
    """
    plans = [Plan(one, window) for one in stored]
    columns = ["steps", "values"] + (["times"] if window.axis == "time" else [])
    cut = window.upto is not None
    raw = columns_read([k for p in plans for k in p.raw_keys], [*columns, *(["seqs"] * cut)])
    for plan in plans:
        plan.raw_take(raw)
        plan.resolution_choose(most)
    wanted = [key for p in plans if not p.coarse for key in keys_of(p.whole)]
    raw = columns_read(wanted, columns)
    picks = picks_read([key for p in plans if p.coarse for key in keys_of(p.whole)])
    return [plan.curve(raw, picks) for plan in plans]


class Plan:
    """How one series is read: which blocks count whole, which are looked at point by point."""

    bits: int | None = None
    """log2 of a bucket; None where every point is drawn."""

    def __init__(self, stored: Stored, window: Window) -> None:
        self.window = window
        heads, tail = stored.heads, stored.tail
        if window.attempt is not None:
            heads = heads[heads["attempt"] == window.attempt]
            tail = {n: points for n, points in tail.items() if n == window.attempt}
        cut = np.zeros(len(heads), bool)
        if window.upto is not None:
            newest, seq = window.upto
            begun = (heads["attempt"] < newest) | (
                (heads["attempt"] == newest) & (heads["first"] <= seq)
            )
            heads = heads[begun]
            cut = (heads["attempt"] == newest) & (heads["last"] > seq)
            tail = {
                n: points[points["seq"] <= seq] if n == newest else points
                for n, points in tail.items()
                if n <= newest
            }
        self.tail = {n: points for n, points in tail.items() if len(points)}
        self.starts = {
            n: int((heads["start"] + heads["count"])[heads["attempt"] == n].max(initial=0))
            for n in self.tail
        }
        self.bases = self._bases(heads)
        self._divide(heads, cut)

    @property
    def raw_keys(self) -> list[BlockKey]:
        """The blocks whose points must be seen before anything is decided."""
        return keys_of(self.raw)

    @property
    def coarse(self) -> bool:
        """Whether the picks of blocks are enough."""
        return self.bits is not None and self.bits >= blocks.GRAIN_BITS

    def _bases(self, heads: NDArray[Any]) -> dict[int, int]:
        """The number of each attempt's first point."""
        bases, base = {}, 0
        for attempt in sorted({*heads["attempt"].tolist(), *self.tail}):
            bases[attempt] = base
            mine = heads[heads["attempt"] == attempt]
            count = int((mine["start"] + mine["count"]).max(initial=0))
            count += len(self.tail.get(attempt, ()))
            base += -(-count // blocks.GRAIN) * blocks.GRAIN
        return bases

    def _divide(self, heads: NDArray[Any], cut: NDArray[Any]) -> None:
        """Tell whole blocks from those that the window cuts or other points may supersede."""
        dirty = cut | ~heads["rising"] | self._overlapping(heads)
        axis, (low, high) = self.window.axis, (self.window.low, self.window.high)
        out, over = np.zeros(len(heads), bool), np.zeros(len(heads), bool)
        if low is not None:
            out |= heads[f"{axis}_high"] < low
            over |= heads[f"{axis}_low"] < low
        if high is not None:
            out |= heads[f"{axis}_low"] > high
            over |= heads[f"{axis}_high"] > high
        # A step is superseded by the same step alone, at whatever time: only steps may be left out unseen.
        out = out if axis == "step" else out & ~dirty
        self.raw = heads[(dirty | over) & ~out]
        self.whole = heads[~dirty & ~over & ~out]

    def _overlapping(self, heads: NDArray[Any]) -> NDArray[np.bool_]:
        """Which blocks share a span of steps with other blocks or with the tail."""
        tails = [(p["step"].min(), p["step"].max()) for p in self.tail.values()]
        low = np.append(heads["step_low"], [t[0] for t in tails]).astype(np.int64)
        high = np.append(heads["step_high"], [t[1] for t in tails]).astype(np.int64)
        order = np.argsort(low, kind="stable")
        low, high = low[order], high[order]
        shared = np.zeros(len(low), bool)
        shared[1:] |= np.maximum.accumulate(high)[:-1] >= low[1:]
        shared[:-1] |= low[1:] <= high[:-1]
        found = np.empty(len(low), bool)
        found[order] = shared
        return found[: len(heads)]

    def raw_take(self, raw: dict[BlockKey, NDArray[Any]]) -> None:
        """Number the points that were read one by one, and drop those that are superseded or outside."""
        spans = [(n, self.starts[n], points) for n, points in self.tail.items()]
        spans += [(key[1], key[2], raw[key]) for key in self.raw_keys]
        points = self._numbered(spans)
        if self.window.upto is not None:
            newest, seq = self.window.upto
            points = points[(points["attempt"] < newest) | (points["seq"] <= seq)]
        points = superseded_removed(points)
        points = points[self.window.inside(points[self.window.axis])]
        self.seen = points[np.argsort(points["number"], kind="stable")]
        self.total = len(points) + int(self.whole["count"].sum())
        self.missing = int(np.isnan(points["value"]).sum()) + int(self.whole["missing"].sum())

    def resolution_choose(self, most: int | None) -> None:
        """Choose the buckets that give at most `most` points."""
        if most is None or self.total <= most:
            return
        first = np.array([self.bases[n] for n in self.whole["attempt"].tolist()], np.int64)
        first = first + self.whole["start"]
        spans = np.stack([first, first + self.whole["count"] - 1], axis=1)
        spans = np.concatenate([spans, spans_of(self.seen["number"])])
        self.bits = bits_for(spans[np.argsort(spans[:, 0], kind="stable")], most)

    def curve(
        self, raw: dict[BlockKey, NDArray[Any]], picks: dict[BlockKey, NDArray[Any]]
    ) -> Curve:
        """What is drawn."""
        held = picks if self.coarse else raw
        whole = self._numbered([(key[1], key[2], held[key]) for key in keys_of(self.whole)])
        points = np.concatenate([self.seen, whole])
        order = np.argsort(points["number"], kind="stable")
        points = points[order]
        if self.bits is None or not len(points):
            values = points["value"]
            return Curve(points, values, values, self.total, self.missing, reduced=False)
        x, close = points[self.window.axis], None
        if self.coarse:
            # Between two picks of a block others were left out, unless their numbers follow each other.
            pick = order >= len(self.seen)
            apart = (np.diff(points["number"]) > 1) & (np.diff(points["attempt"]) == 0)
            close = ~(pick[1:] & pick[:-1] & apart)
        return _thinned(points, self.bits, x, close, self.total, self.missing)

    def _numbered(self, spans: Sequence[tuple[int, int, NDArray[Any]]]) -> NDArray[Any]:
        """Points or picks of spans, each with its attempt and the place of its first point, numbered."""
        if not spans:
            return np.empty(0, NUMBERED)
        counts = [len(points) for _, _, points in spans]
        points = np.concatenate([points for _, _, points in spans])
        numbered = np.zeros(len(points), NUMBERED)
        first = np.array([self.bases[attempt] + start for attempt, start, _ in spans], np.int64)
        names = points.dtype.names or ()
        if "place" in names:
            places = points["place"]
        else:
            places = np.arange(len(points)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbered["number"] = np.repeat(first, counts) + places
        numbered["attempt"] = np.repeat([attempt for attempt, _, _ in spans], counts)
        for name in POINT.names or ():
            if name in names:
                numbered[name] = points[name]
        return numbered


def values_read(stored: Stored, window: Window) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Every step (N,), rising, and its value (N,): what is looked up by step. Raises BlocksMoved."""
    plan = Plan(stored, window)
    plan.raw_take(columns_read(plan.raw_keys, ["steps", "values", "seqs"]))
    pairs = list(pairs_read(keys_of(plan.whole)))
    steps = np.concatenate([plan.seen["step"], *(steps for steps, _ in pairs)])
    values = np.concatenate([plan.seen["value"], *(values for _, values in pairs)])
    if (steps[1:] > steps[:-1]).all():
        return steps, values
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]


def superseded_removed(points: NDArray[Any]) -> NDArray[Any]:
    """One point per step, in order of steps: of several the one with the highest number."""
    if (points["step"][1:] > points["step"][:-1]).all():
        return points
    points = points[np.lexsort((points["number"], points["step"]))]
    return points[np.append(points["step"][1:] != points["step"][:-1], True)]
