"""The execution plan of a run: what each step's time went to, what was estimated, and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import ENDED, State
from orchestrator.selectors.plan_basis import estimates_of, starts_of
from orchestrator.selectors.plan_facts import facts_of
from orchestrator.selectors.plan_lines import KEPT, lines_read, newest_steps, steps_of
from orchestrator.selectors.plan_path import (
    bottleneck_of,
    path_shares,
    phase_order,
    phase_times,
    processes_of,
    step_seconds,
)
from orchestrator.selectors.plan_rules import suggestions
from trainer.spans import SELDOM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Run
    from orchestrator.selectors.plan_estimate import Estimate
    from orchestrator.selectors.plan_lines import StepLine
    from orchestrator.selectors.plan_path import PhaseTime

ROWS = 12
"""Bars of the drawing, when nobody asks for certain steps."""

LABELS = {
    "data": "Data",
    "rollout": "Rollout",
    "reward": "Reward",
    "logprob": "Log-prob",
    "update": "Update",
    "sync": "Sync",
    "eval": "Evaluation",
    "checkpoint": "Checkpoint",
    "wait": "Wait",
    "other": "Other",
}

HELP = {
    "kept": f"A run keeps the newest {KEPT} lines of each process. Of steps quicker than a quarter of a second "
    "one in several is recorded, and stands for the others; of all others every one.",
    "p50_s": "Seconds of a step that has this phase: the median.",
    "mean_s": "Seconds of a step, over all steps.",
    "share": "Share of the time of its process.",
    "path_share": "Share of the critical path: the time of the process that takes the optimizer steps and, while "
    "it waits, of the one that it waits for.",
    "estimated_s": "What a step that has this phase was expected to take, from what was known at the start. Not a "
    "measurement. null where nothing sound is known.",
    "basis": "What the estimate rests on.",
    "bottleneck": "The phase with the largest share of the critical path.",
    "suggestions": "What is worth a change, by rules with stated thresholds; empty when nothing stands out.",
}


def plan_read(run: Run, steps: tuple[int, int] | None = None) -> dict[str, Any]:
    """Spans of the newest steps, or of those asked for, and what all kept lines of the run add up to."""
    lines = lines_read(run)
    start = starts_of([run]).get(run.pk)
    times = phase_times(lines)
    shares = path_shares(lines)
    estimates = estimates_of(run, start)
    processes = processes_of(lines)
    shown = steps or newest_steps(lines, max(2, ROWS // max(1, len(processes))))
    found = suggestions(facts_of(run, start, lines)) if shares else []
    recorded = [line.step for line in lines]
    return {
        "run": run.pk,
        "kept": len(lines),
        "kept_most": KEPT,
        "first_step": min(recorded, default=None),
        "last_step": max(recorded, default=None),
        "steps": list(shown) if shown else None,
        "processes": processes,
        "lines": _lines(steps_of(lines, *shown), processes) if shown else [],
        "phases": _phases(times, shares, estimates),
        "step_p50_s": step_seconds(lines),
        "estimated_step_s": _whole(times, estimates),
        "bottleneck": _bottleneck(shares, times, processes),
        "suggestions": [
            {"field": s.field, "text": s.text, "rule": s.rule, "source": s.source} for s in found
        ],
        "words": "" if times else _nothing(run),
    }


def plan_page(run: Run) -> dict[str, Any]:
    """The plan with what its card adds: the table of the steps that are drawn, and the name of each phase."""
    plan = plan_read(run)
    labels = {one["phase"]: one["label"] for one in plan["phases"]}
    for line in plan["lines"]:
        labels |= {span["phase"]: label_of(span["phase"]) for span in line["spans"]}
    order = sorted(labels, key=phase_order)
    return {
        "run": run,
        "plan": plan,
        "help": HELP,
        "several": len(plan["processes"]) > 1,
        "drawn": {name: plan[name] for name in ("lines", "phases", "processes")}
        | {"labels": labels, "seldom": sorted(SELDOM)},
        "columns": [{"phase": phase, "label": labels[phase]} for phase in order],
        "rows": [_row(line, order) for line in plan["lines"]],
    }


def _row(line: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    spent: dict[str, float] = {}
    for span in line["spans"]:
        spent[span["phase"]] = spent.get(span["phase"], 0.0) + span["end"] - span["start"]
    return {**line, "cells": [spent.get(phase) for phase in order]}


def _lines(lines: Sequence[StepLine], processes: list[str]) -> list[dict[str, Any]]:
    """Step by step, the processes in their order, what came behind the last step at the end."""

    def place(line: StepLine) -> tuple[int, bool, int]:
        return line.step, not line.steps, processes.index(line.process)

    return [_line(line) for line in sorted(lines, key=place)]


def _line(line: StepLine) -> dict[str, Any]:
    return {
        "process": line.process,
        "attempt": line.attempt,
        "step": line.step,
        "steps": line.steps,
        "start": line.start,
        "seconds": line.seconds,
        "folded": line.folded,
        "spans": [span._asdict() for span in line.spans],
    }


def _phases(
    times: Sequence[PhaseTime], shares: dict[str, float], estimates: dict[str, Estimate]
) -> list[dict[str, Any]]:
    main = {phase: _main_process(phase, times) for phase in {time.phase for time in times}}
    found = []
    for time in times:
        # Several processes may have a phase of this name; the estimate is of the one that does most of it.
        estimate = estimates.get(time.phase) if main[time.phase] == time.process else None
        found.append(
            {
                "process": time.process,
                "phase": time.phase,
                "label": label_of(time.phase),
                "p50_s": time.p50,
                "mean_s": time.mean,
                "share": time.share,
                "path_share": shares.get(time.phase, 0.0),
                "steps": time.steps,
                "estimated_s": estimate.seconds if estimate else None,
                "basis": estimate.basis if estimate else "no estimate",
            }
        )
    return found


def _main_process(phase: str, times: Sequence[PhaseTime]) -> str:
    """Who does most of it; of those that do about as much the first one."""
    of_phase = [time for time in times if time.phase == phase]
    most = max(time.mean for time in of_phase)
    return next(time.process for time in of_phase if time.mean >= most / 2)


def label_of(phase: str) -> str:
    """What a phase is called on the page."""
    return LABELS.get(phase, phase.capitalize())


def _whole(times: Sequence[PhaseTime], estimates: dict[str, Estimate]) -> float | None:
    """The estimate of an ordinary step; None unless it covers the phases that most of its time goes to."""
    first = times[0].process if times else ""
    usual = {time.phase for time in times if time.process == first} - SELDOM
    known = [estimates[phase].seconds for phase in usual if phase in estimates]
    covered = sum(time.mean for time in times if time.process == first and time.phase in estimates)
    whole = sum(time.mean for time in times if time.process == first and time.phase in usual)
    return sum(known) if known and covered >= 0.8 * whole else None


def _bottleneck(
    shares: dict[str, float], times: Sequence[PhaseTime], processes: list[str]
) -> dict[str, Any] | None:
    """Where the time goes; of a run that does one thing alone that would say nothing."""
    worst = bottleneck_of(shares)
    if worst is None or len({time.phase for time in times} - {"other"}) < 2:
        return None
    share, process = shares[worst], _main_process(worst, times)
    of, where = "of the time", ""
    if len(processes) > 1:
        of, where = "of the critical path", f" in {process}"
    words = f"{label_of(worst)}{where} is the bottleneck: {100 * share:.0f} % {of}."
    return {"phase": worst, "process": process, "share": share, "words": words}


def _nothing(run: Run) -> str:
    """Why there is no plan."""
    if run.state in ENDED:
        return "This run ended before a step of it was recorded."
    if run.state in (State.QUEUED, State.DRAFT, State.PAUSED):
        return "It appears here with the first step, once the run works."
    if run.kind == "evaluate":
        return "It appears here when the evaluation is done."
    return "It appears here with the first step; loading and a warm-up have no plan."
