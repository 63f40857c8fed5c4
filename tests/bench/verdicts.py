"""How often the statistics of comparisons are right, by simulation.

    python -m tests.bench.verdicts [--comparisons 10000]

Every number is a share of comparisons whose truth is known, made by
`tests/orchestrator/evidence/simulated.py` with fixed seeds. With ANNEAL_GSM8K_DIR set it adds the paired
tables of the four published models in `gsm8k_model_solutions.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.evidence import findings, outside_read
from tests.orchestrator.evidence.simulated import (
    CLOSE,
    SCENARIOS,
    close_coverage,
    coverage,
    length_cover,
    passes_cover,
    ratings_cover,
    rejections,
    seeds_cover,
    watched,
    with_gain,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 1_000
SLOW = 10
"""What refits a model for each comparison is repeated this many times less often."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comparisons", type=int, default=10_000)
    count = max(BATCH, parser.parse_args().comparisons)
    print(f"{count:,} comparisons a number\n")
    rejected(count)
    covered(count)
    looked_at(count)
    others(count)
    said(count)
    if folder := os.environ.get("ANNEAL_GSM8K_DIR"):
        four_models(Path(folder))


def batches(count: int, measure: Callable[[int], float]) -> float:
    """The mean over seeds of a share of BATCH comparisons each."""
    return float(np.mean([measure(seed) for seed in range(1_000, 1_000 + count // BATCH)]))


def rejected(count: int) -> None:
    print("| equal checkpoints, called different at 5 % | prompts | " + " | ".join(TESTS) + " |")
    print("|---|---|" + "---|" * len(TESTS))
    for scenario in SCENARIOS:
        for prompts in (50, 200, 1_000):
            shares: dict[str, list[float]] = defaultdict(list)
            for seed in range(count // BATCH):
                for name, share in rejections(scenario, prompts, BATCH, seed).items():
                    shares[name].append(share)
            cells = [f"{np.mean(shares[name]):.3f}" if name in shares else "–" for name in TESTS]
            print(f"| {scenario.name} | {prompts} | {' | '.join(cells)} |", flush=True)


TESTS = (
    "McNemar, mid-p",
    "McNemar, exact",
    "McNemar, corrected",
    "permutation, mid-p",
    "permutation",
)


def covered(count: int) -> None:
    print("\n| 95 % intervals that hold the truth | 20 prompts | 50 | 100 | 200 | 1,000 |")
    print("|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        for name, truth in (
            (scenario.name, scenario),
            (f"{scenario.name}, better", with_gain(scenario)),
        ):
            cells = [
                f"{batches(count, lambda seed, n=prompts, s=truth: coverage(s, n, BATCH, seed)):.3f}"
                for prompts in (20, 50, 100, 200, 1_000)
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for scenario in CLOSE:
        cells = [
            f"{close_coverage(scenario, prompts, count // SLOW, seed=prompts):.3f}"
            for prompts in (20, 50, 100, 200, 1_000)
        ]
        print(f"| {scenario.name} | {' | '.join(cells)} |", flush=True)


def looked_at(count: int) -> None:
    heads = ("ever found", "held always", "held at the stop", "t interval ever found")
    print(f"\n| looked at after each of 500 prompts | {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for scenario in SCENARIOS:
        for name, truth in (
            (scenario.name, scenario),
            (f"{scenario.name}, better", with_gain(scenario)),
        ):
            found = [watched(truth, 500, BATCH, seed) for seed in range(count // BATCH)]
            cells = [
                np.mean([getattr(each, part) for each in found])
                for part in ("found", "covered_always", "covered_at_stop", "found_by_fixed")
            ]
            print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |", flush=True)


def others(count: int) -> None:
    print("\n| other 95 % intervals that hold the truth | |\n|---|---|")
    for seeds in (2, 3, 5):
        for spread in (0.0, 0.02, 0.1):
            share = seeds_cover(seeds, spread, 150, count, seed=seeds)
            print(
                f"| {seeds} training seeds a side that spread by {spread} | {share:.3f} |",
                flush=True,
            )
    for k in (1, 4, 8):
        share = batches(count, lambda seed, k=k: passes_cover(k, 100, BATCH, seed))
        print(f"| pass@{k} of 8 samples, 100 prompts | {share:.3f} |", flush=True)
    for outcomes in (100, 400):
        share = length_cover(outcomes, count // SLOW, seed=10_000)
        print(f"| length-controlled win rate, {outcomes} outcomes | {share:.3f} |", flush=True)
    for prompts in (40, 150):
        share = ratings_cover(prompts, 4 * prompts, count // SLOW, seed=20_000)
        print(
            f"| Bradley-Terry ratings, {prompts} prompts with 4 votes | {share:.3f} |", flush=True
        )


def said(count: int) -> None:
    print(
        "\n| verdicts, the whole way from scores | better | worse | no difference found | not enough data |"
    )
    print("|---|---|---|---|---|")
    for scenario, prompts in ((SCENARIOS[0], 200), (SCENARIOS[3], 200)):
        for name, truth in (("equal", scenario), ("better", with_gain(scenario, 0.1))):
            found = words(truth, prompts, count // (1 if name == "equal" else SLOW), seed=3)
            cells = [f"{found.get(word, 0):.3f}" for word in WORDS]
            print(
                f"| {scenario.name}, {prompts} prompts, {name} | {' | '.join(cells)} |", flush=True
            )


WORDS = ("better", "worse", "no difference found", "not enough data")


def four_models(folder: Path) -> None:
    """Pair by pair, as an external comparison."""
    path = next(folder.glob("*model_solutions.jsonl"))
    outside = outside_read(json.loads(line) for line in path.read_text().splitlines())
    heads = (
        "both, candidate alone, baseline alone, neither",
        "difference",
        "95 % interval",
        "mid-p",
        "Holm",
        "word",
    )
    print(f"\n| candidate, baseline | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|")
    for each in findings(outside.arms):
        table, interval = each.table, each.difference.interval
        assert table is not None
        cells = f"{table.both}, {table.candidate_only}, {table.baseline_only}, {table.neither}"
        print(
            f"| {each.candidate}, {each.baseline} | {cells} | {each.difference.difference:+.4f} | "
            f"{interval.low:+.4f} to {interval.high:+.4f} | {each.p:.2g} | {each.p_corrected:.2g} | "
            f"{each.verdict.word} |"
        )


if __name__ == "__main__":
    main()
