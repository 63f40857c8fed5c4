"""Asynchronous against synchronous GRPO: reward curve and time, for several stalenesses, corrected and not.

    python -m tests.bench.async_rl --out DIR [--seeds 3] [--steps 120] [--figure FILE.svg]

Warms one model up, then trains it by each setting and seed in turn, on the machine as it is. Writes
`results.json`, prints a table of medians, and draws the curves with the Plotly and Chromium that the tests use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from trainer.journal import read_events
from trainer.rundir import RunDir

PROJECT = Path(__file__).parents[2]
PLAIN = ["correction.old_policy=sampler"]
SERVER = ["rollout.placement=server"]
SETTINGS: dict[str, list[str]] = {
    "synchronous": [],
    "eta 0, own process": SERVER,
    "eta 1": [*SERVER, "rollout.max_staleness=1", *PLAIN],
    "eta 1, corrected": [*SERVER, "rollout.max_staleness=1"],
    "eta 4": [*SERVER, "rollout.max_staleness=4", *PLAIN],
    "eta 4, corrected": [*SERVER, "rollout.max_staleness=4"],
}
WATCHED = (
    "time/step", "time/rollout", "time/wait", "time/update", "time/logprob", "time/sync", "reward",
    "sample/staleness_mean", "sample/staleness_max", "gen_kl_error", "generator/busy_frac",
)  # fmt: skip


def trainer(*arguments: str) -> None:
    """Run the trainer's command line; its output goes where ours goes when it fails."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "trainer", *arguments]
    found = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(found.stdout[-2000:] + found.stderr[-2000:])


def measure(folder: Path) -> dict[str, Any]:
    """Curves by step, and seconds of training without evaluation and checkpoints."""
    curves: dict[str, dict[int, float]] = {name: {} for name in (*WATCHED, "eval/accuracy")}
    busy = 0.0
    for event in read_events(RunDir(folder).attempt(1).journal("trainer")):
        values = event.get("values", {})
        for name, curve in curves.items():
            if isinstance(values.get(name), (int, float)):
                curve[event["step"]] = values[name]
        if "time/step" in values:
            busy += values["time/step"] - values["time/eval"] - values["time/checkpoint"]
    return {"seconds": busy, "curves": curves}


def run(out: Path, seeds: int, steps: int) -> dict[str, list[dict[str, Any]]]:
    """Every setting, seed by seed, so that a busy minute meets all of them."""
    start = out / "warm"
    if not start.exists():
        trainer("run", "noisy_sort_sft", "--dir", str(start))
    (model,) = sorted((start / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))[-1:]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
    for seed in range(seeds):
        for name, overrides in SETTINGS.items():
            folder = out / f"{name.replace(',', '').replace(' ', '-')}-{seed}"
            begun = time.perf_counter()
            trainer(
                "run", "noisy_sort_grpo", "--dir", str(folder), f"model.name={model}", "model.warm_start=",
                f"seed={seed}", f"budget.max_steps={steps}", "checkpoint.every_steps=0", *overrides,
            )  # fmt: skip
            results[name].append(measure(folder) | {"wall": time.perf_counter() - begun})
            print(name, seed, round(results[name][-1]["seconds"], 1), flush=True)
    return results


def median_of(runs: list[dict[str, Any]], name: str, last: int = 0) -> float | None:
    """The median over seeds of a curve's mean, or of the mean of its `last` values."""
    means = []
    for one in runs:
        values = list(one["curves"][name].values())[-last:]
        if values:
            means.append(statistics.fmean(values))
    return statistics.median(means) if means else None


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown, medians over the seeds."""
    lines = [
        "| setting | training | step | waits | generator at work | staleness | generation KL | "
        "eval/accuracy at the end (seeds) |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def shown(value: float | None, text: str) -> str:
        return "–" if value is None else text.format(value)

    for name, runs in results.items():
        ends = sorted(list(one["curves"]["eval/accuracy"].values())[-1] for one in runs)
        columns = [
            name,
            f"{statistics.median(one['seconds'] for one in runs):.1f} s",
            shown(median_of(runs, "time/step"), "{:.3f} s"),
            shown(median_of(runs, "time/wait"), "{:.3f} s"),
            shown(median_of(runs, "generator/busy_frac"), "{:.2f}"),
            shown(median_of(runs, "sample/staleness_mean"), "{:.2f}"),
            shown(median_of(runs, "gen_kl_error"), "{:.2g}"),
            f"{statistics.median(ends):.3f} ({', '.join(f'{end:.3f}' for end in ends)})",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def figure(results: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Reward by step and by second, a line for each setting (median over the seeds)."""
    import plotly.graph_objects as go
    from playwright.sync_api import sync_playwright
    from plotly.subplots import make_subplots

    colours = ("#4269d0", "#97bbf5", "#efb118", "#ff725c", "#3ca951", "#a463f2")
    drawn = make_subplots(cols=2, subplot_titles=("reward by step", "reward by second of training"))
    for colour, (name, runs) in zip(colours, results.items(), strict=True):
        steps = sorted(runs[0]["curves"]["reward"])
        reward = [
            statistics.median(one["curves"]["reward"][step] for one in runs) for step in steps
        ]
        smooth = [statistics.fmean(reward[max(0, i - 4) : i + 1]) for i in range(len(reward))]
        share = statistics.median(one["seconds"] for one in runs) / len(steps)
        line = {"color": colour, "width": 2}
        for column, x in ((1, steps), (2, [share * (i + 1) for i in range(len(steps))])):
            trace = go.Scatter(
                x=x, y=smooth, name=name, line=line, legendgroup=name, showlegend=column == 1
            )
            drawn.add_trace(trace, row=1, col=column)
    drawn.update_layout(
        template="plotly_white", width=1000, height=420, legend={"orientation": "h", "y": -0.15}
    )
    drawn.update_yaxes(title="reward (mean of 5 steps)", range=[0, 1])
    with sync_playwright() as browser:
        chromium = browser.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = chromium.new_page()
        page.set_content(drawn.to_html(include_plotlyjs=True))
        plot, size = "document.querySelector('.js-plotly-plot')", "width: 1000, height: 420"
        url = page.evaluate(f"Plotly.toImage({plot}, {{format: 'svg', {size}}})")
        chromium.close()
    file.write_text(unquote(url.partition(",")[2]))


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    results = run(asked.out, asked.seeds, asked.steps)
    (asked.out / "results.json").write_text(json.dumps(results))
    print(table(results))
    if asked.figure:
        figure(results, asked.figure)


if __name__ == "__main__":
    main()
