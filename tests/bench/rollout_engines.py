"""Tokens per second of the rollout engines: `python tests/bench/rollout_engines.py [--rounds N] [--out FILE]`.

Models of about 1, 6 and 25 million weights, built on the spot; the same prompts for both engines. Lengths are
either all the same ("short") or long-tailed: a share of the vocabulary ends an answer, so that each token may be
the last with the same chance, and a few answers run to the limit. Engines take turns in every round; the table
gives medians, and the range over the rounds. vLLM runs in a process of its own (`rollout.placement = "server"`),
the native engine in this one: neither touches the other's threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

SIZES = {
    "1 M": {"hidden_size": 128, "layers": 5, "heads": 4},
    "6 M": {"hidden_size": 256, "layers": 7, "heads": 8},
    "25 M": {"hidden_size": 512, "layers": 7, "heads": 8},
}
LENGTHS = {"short": (32, 0.0), "long-tailed": (512, 1 / 60)}
"""Longest answer, and the chance of an end at each token."""
PROMPTS, SAMPLES = 8, 8


def main() -> None:
    """Measure, print a Markdown table, and write the raw figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("--engines", default="native,vllm")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    engines, rows = options.engines.split(","), []
    for size in options.sizes.split(","):
        for kind in LENGTHS:
            rates = measure(size, kind, engines, options.rounds, options.threads)
            rows.append({"size": size, "lengths": kind, "threads": options.threads, **rates})
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows, engines))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


def measure(size: str, kind: str, engines: list[str], rounds: int, threads: int) -> dict[str, Any]:
    """Tokens per second of each engine, and its mean length."""
    import torch

    from trainer.engine.generation import generator_make
    from trainer.engine.sampler import Sampling
    from trainer.engine.seeds import sample_keys
    from trainer.spec import spec_parse

    torch.set_num_threads(threads)
    most, chance = LENGTHS[kind]
    policy = policy_of(size, chance)
    prompts = [[5 + (3 * i + j) % 40 for j in range(24)] for i in range(PROMPTS)]
    generators = {}
    for engine in engines:
        rollout = {"engine": engine, "max_new_tokens": most, "group_size": SAMPLES}
        if engine == "vllm":
            rollout["placement"] = "server"
        spec = spec_parse(
            {
                "rewards": [{"type": "exact-match"}],
                "rollout": rollout,
                "data": {"max_prompt_tokens": 64, "max_tokens": 1024},
                "batch": {"prompts_per_step": PROMPTS},
                "resources": {"cpus": threads},
            }
        )
        generators[engine] = generator_make(spec, policy, prompts[0], lambda: None)
    try:
        found: dict[str, list[float]] = {engine: [] for engine in engines}
        lengths: dict[str, list[int]] = {engine: [] for engine in engines}
        for turn in range(rounds + 1):
            keys = sample_keys(0, "bench", turn, list(range(PROMPTS)), SAMPLES)
            # Each begins every other round: whatever the machine does besides hits both.
            for engine in engines[:: 1 if turn % 2 else -1]:
                began = time.perf_counter()
                answers = generators[engine].sample(
                    prompts, keys, Sampling(most), budget=8 * 16384, tick=lambda: None
                )
                seconds = time.perf_counter() - began
                if turn:  # The first round warms up.
                    lengths[engine] += [len(answer.tokens) for answer in answers]
                    found[engine].append(sum(len(a.tokens) for a in answers) / seconds)
    finally:
        for generator in generators.values():
            generator.close()
    weights = sum(parameter.numel() for parameter in policy.model.parameters())
    return {"weights": weights} | {
        engine: {
            "median": statistics.median(found[engine]),
            "range": [min(found[engine]), max(found[engine])],
            "mean_length": statistics.fmean(lengths[engine]),
        }
        for engine in engines
    }


def policy_of(size: str, chance: float) -> Any:
    """A model whose answers end with this chance at each token; 0: never."""
    import torch

    from trainer.engine.load import policy_make, starter_build
    from trainer.spec import Model

    shape = {**SIZES[size], "tokenizer": "bpe"}
    model, tokenizer = starter_build(Model(options=shape), "", ["sort 50316 = 01356"], 0)
    policy = policy_make(model, tokenizer, torch.device("cpu"), "float32")
    # New weights spread their mass nearly evenly: so many end tokens together have the chance.
    width = policy.vocabulary
    ends = round(chance * width)
    policy.eos_ids = tuple(range(width - ends, width))
    return policy


def table(rows: list[dict[str, Any]], engines: list[str]) -> str:
    """Markdown."""
    lines = [
        "| weights | lengths | mean tokens | "
        + " | ".join(f"{e} tokens/s" for e in engines)
        + " |",
        "| --- | --- | --- |" + " --- |" * len(engines),
    ]
    for row in rows:
        cells = [
            f"{row[e]['median']:,.0f} ({row[e]['range'][0]:,.0f} to {row[e]['range'][1]:,.0f})"
            for e in engines
        ]
        mean = row[engines[0]]["mean_length"]
        lines.append(
            f"| {row['size']} | {row['lengths']} | {mean:.0f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
