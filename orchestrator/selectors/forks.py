"""Forks: what a run forked from a checkpoint starts with, and the curves of the runs it descends from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.selectors.changes import past_changes
from orchestrator.selectors.points import points_stored
from orchestrator.selectors.series import TOKENS, series_read
from trainer.spec import CHECKPOINT_PREFIX
from trainer.specfile import set_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Checkpoint, Run

GENERATIONS = 8
"""How far back curves are drawn."""


@dataclass(frozen=True)
class Ancestor:
    """A run that another one descends from, up to the step at which that one left it."""

    run: Run
    step: int
    offset: int
    """Of its steps to those of the youngest run: step s lies at s + offset, the fork itself at or below 0."""


def fork_spec(checkpoint: Checkpoint) -> dict[str, Any]:
    """The spec of the checkpoint's run as it was at that step, live changes included, started from there."""
    spec: dict[str, Any] = copy.deepcopy(checkpoint.run.spec)
    # The checkpoint has a shape, and what was trained already is in its weights: no warm-up again.
    name = f"{CHECKPOINT_PREFIX}{checkpoint.pk}"
    for path, value in {**checkpoint.run.overrides, **knobs_at(checkpoint)}.items():
        set_path(spec, path, value)
    model = {"name": name, "warm_start": "", "options": {}, "revision": ""}
    spec["model"] = {**spec.get("model", {}), **model}
    return spec


def knobs_at(checkpoint: Checkpoint) -> dict[str, Any]:
    """The live knobs that had been applied when the checkpoint was saved."""
    told = [one for one in past_changes(checkpoint.run) if "knobs" in one]
    before = [one for one in told if one["attempt"] <= checkpoint.attempt]
    applied = [one["knobs"] for one in before if one["step"] <= checkpoint.step]
    return dict(applied[-1]) if applied else {}


def fork_name(checkpoint: Checkpoint) -> str:
    """What a fork is called unless somebody names it."""
    return f"{checkpoint.run.name[:100]}-from-{checkpoint.step}"


def ancestors(run: Run) -> list[Ancestor]:
    """The parent, its parent, and so on; empty for a run that is no fork or whose parent is deleted."""
    found: list[Ancestor] = []
    offset, child = 0, run
    while child.parent is not None and child.parent_step is not None and len(found) < GENERATIONS:
        offset -= child.parent_step
        found.append(Ancestor(child.parent, child.parent_step, offset))
        child = child.parent
    return found


def lineage_read(
    *, run: Run, keys: Sequence[str], x: str = "step", points: int = 1500
) -> list[dict[str, Any]]:
    """Each ancestor's part of the curves, youngest first: `{run, name, step, offset, curves}`.

    Along steps and tokens a parent's points lie at or below 0, where its fork begins; along time they lie
    where they were. Raises ValueError for an unknown axis.
    """
    found = []
    tokens_behind = 0.0
    for one in ancestors(run):
        until = _moment(one) if x == "time" else None
        tokens = _tokens(one) if x == "tokens" else 0.0
        tokens_behind += tokens
        end = {"step": float(one.step), "time": until, "tokens": tokens}.get(x)
        curves = series_read(run=one.run, keys=keys, x=x, points=points, end=end)
        shift = {"step": float(one.offset), "tokens": -tokens_behind}.get(x, 0.0)
        for curve in curves.values():
            curve["x"] = [place + shift for place in curve["x"]]
            curve["nan_x"] = [place + shift for place in curve["nan_x"]]
        found.append(
            {
                "run": one.run.pk,
                "name": one.run.name,
                "step": one.step,
                "offset": one.offset,
                "curves": curves,
            }
        )
    return found


def _moment(one: Ancestor) -> float | None:
    """When the ancestor logged its last step before the fork."""
    last = _last_before(one)
    return None if last is None else float(last["time"])


def _tokens(one: Ancestor) -> float:
    """How many tokens the ancestor had processed at the fork."""
    last = _last_before(one)
    return 0.0 if last is None else float(last["value"])


def _last_before(one: Ancestor) -> Any:
    """The count of tokens that the ancestor logged last before the fork, by the newest attempt that came there."""
    found = points_stored(one.run, [TOKENS]).get(TOKENS, [])
    before = [points[points["step"] <= one.step] for _, points in found]
    return next((points[-1] for points in reversed(before) if len(points)), None)
