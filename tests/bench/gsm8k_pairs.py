"""Does DPO learn anything that holds on unseen problems? Real preference pairs, three splits, baselines.

    ANNEAL_GSM8K_DIR=... python -m tests.bench.gsm8k_pairs --out DIR [--seeds 0 1 2]

It runs the recipe `gsm8k_sft_dpo` once per split seed (the warm-up, which no split touches, once for all),
then asks of every pair whether the correct answer is preferred:

- implicit reward: log pi(answer) - log pi_ref(answer) is higher for it (what DPO trains),
- raw: log pi(answer) is higher for it,
- length: the longer (or the shorter, as is better on the training pairs) answer is chosen,
- words: logistic regression on differences of word counts, fitted on the training pairs.

Pairs of one problem are not independent, so intervals resample whole problems. Splits overlap between
seeds; a problem that is held out in two of them is one cluster. ANNEAL_SCALE shrinks the budgets.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from trainer.recipebook import recipe_find
from trainer.rows import rows_load
from trainer.rundir import RunDir
from trainer.specfile import spec_load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.methods import Row
    from trainer.spec import RunSpec

RECIPE, WARM_UP = "gsm8k_sft_dpo", "gsm8k_sft"
PAIR = frozenset({"prompt", "chosen", "rejected"})
RESAMPLES = 10_000


@dataclass
class Judged:
    """How one method judged some pairs: 1 right, 0 wrong, 0.5 undecided; one problem each."""

    right: np.ndarray
    problems: list[str]

    def with_more(self, other: Judged) -> Judged:
        """Both together."""
        right = np.concatenate([self.right, other.right])
        return Judged(right, self.problems + other.problems)


# --- statistics ------------------------------------------------------------------------------------


def decided(margins: np.ndarray) -> np.ndarray:
    """1 where the margin is positive, 0 where negative, 0.5 at a tie."""
    return (margins > 0) + 0.5 * (margins == 0)


def interval(judged: Judged, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean: bootstrap over whole problems."""
    names, index = np.unique(judged.problems, return_inverse=True)
    sums = np.bincount(index, weights=judged.right, minlength=len(names))
    counts = np.bincount(index, minlength=len(names))
    draw = np.random.default_rng(seed)
    means = []
    for _ in range(0, resamples, 500):
        picked = draw.integers(0, len(names), (min(500, resamples), len(names)))
        means.append(sums[picked].sum(1) / counts[picked].sum(1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


# --- baselines -------------------------------------------------------------------------------------


def by_length(train: Sequence[Row], rows: Sequence[Row]) -> np.ndarray:
    """Margins of the rule "the longer one", or "the shorter one" when that is better on `train`."""
    direction = 1 if decided(_length_difference(train)).mean() >= 0.5 else -1
    return direction * _length_difference(rows)


def _length_difference(rows: Sequence[Row]) -> np.ndarray:
    return np.array([len(row["chosen"]) - len(row["rejected"]) for row in rows], dtype=float)


def by_words(
    train: Sequence[Row], rows: Sequence[Row], penalty: float = 0.03
) -> tuple[np.ndarray, np.ndarray]:
    """Margins on `train` and on `rows` of a logistic regression on differences of word counts."""
    seen: Counter[str] = Counter()
    for row in train:
        seen.update(set(_words(row["chosen"])) | set(_words(row["rejected"])))
    vocabulary = {word: index for index, word in enumerate(w for w, n in seen.items() if n >= 5)}
    x, held_out = _features(train, vocabulary), _features(rows, vocabulary)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = x @ weights
        value = np.logaddexp(0, -margin).mean() + 0.5 * penalty * weights @ weights
        pull = np.exp(-np.logaddexp(0, margin))
        return value, -(x.T @ pull) / len(x) + penalty * weights

    weights = minimize(loss, np.zeros(len(vocabulary)), jac=True, method="L-BFGS-B").x
    return x @ weights, held_out @ weights


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]+|\d|[^\sA-Za-z\d]", text)


def _features(rows: Sequence[Row], vocabulary: dict[str, int]) -> np.ndarray:
    features = np.zeros((len(rows), len(vocabulary)))
    for number, row in enumerate(rows):
        for column, sign in (("chosen", 1), ("rejected", -1)):
            for word, count in Counter(_words(row[column])).items():
                if word in vocabulary:
                    features[number, vocabulary[word]] += sign * count
    return features


# --- the model -------------------------------------------------------------------------------------


def log_probabilities(folder: Path, rows: Sequence[Row]) -> np.ndarray:
    """log pi(answer | prompt), summed over tokens and the end token: (rows, [chosen, rejected]).

    Pairs of a problem share answers: each is computed once.
    """
    sides = [[(row["prompt"], row[column]) for row in rows] for column in ("chosen", "rejected")]
    answers = sorted(set(sides[0] + sides[1]))
    known = dict(zip(answers, _sums(str(folder), tuple(answers)), strict=True))
    return np.array([[known[answer] for answer in side] for side in sides]).T


@cache
def _sums(folder: str, answers: tuple[tuple[str, str], ...]) -> list[float]:
    """One number for each (prompt, answer); kept, because every seed asks the same of the start model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def encoded(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False)["input_ids"]

    prompts = encoded([prompt for prompt, _ in answers])
    endings = encoded([answer for _, answer in answers])
    texts = [[*p, *a, tokenizer.eos_token_id] for p, a in zip(prompts, endings, strict=True)]
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    found = np.zeros(len(texts))
    for start in range(0, len(order), 16):
        part = order[start : start + 16]
        width = max(len(texts[number]) for number in part)
        ids = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros(len(part), width - 1, dtype=torch.bool)
        for line, number in enumerate(part):
            ids[line, : len(texts[number])] = torch.tensor(texts[number])
            mask[line, len(prompts[number]) - 1 : len(texts[number]) - 1] = True
        with torch.no_grad():
            # Padding stands on the right, where a causal model does not look.
            logits = model(ids[:, :-1]).logits
        logp = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        found[part] = torch.where(mask, logp, 0.0).double().sum(-1).numpy()
    return [float(value) for value in found]


def trained(out: Path, name: str, overrides: Sequence[str]) -> Path:
    """Run a recipe in `out`, or finish the run that is there; the folder of its final checkpoint."""
    run = RunDir(out)
    if not run.exists():
        _trainer("run", str(recipe_find(name)), *overrides, "--dir", str(out))
    elif run.spec().budget.max_steps not in run.checkpoint_steps():
        _trainer("resume", str(out))
    return run.checkpoint(run.checkpoint_steps()[-1])


def _trainer(*arguments: str) -> None:
    command = [sys.executable, "-m", "trainer", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def scaled(spec: RunSpec, scale: float) -> list[str]:
    """The override that shrinks a budget."""
    return [f"budget.max_steps={max(1, round(scale * spec.budget.max_steps))}"]


# --- the comparison --------------------------------------------------------------------------------


def compare(out: Path, seeds: Sequence[int], overrides: Sequence[str]) -> dict[str, Any]:
    """Accuracies of every method, by seed and pooled, as plain data."""
    scale = float(os.environ.get("ANNEAL_SCALE", "1"))
    start = trained(out / "sft", WARM_UP, scaled(spec_load(WARM_UP), scale))
    pooled: dict[str, Judged] = {}
    report: dict[str, Any] = {"scale": scale, "overrides": list(overrides), "seeds": {}}
    for seed in seeds:
        own = [
            *scaled(spec_load(RECIPE), scale),
            f"seed={seed}",
            f"data.train.0.split_seed={seed}",
            f"data.eval.0.split_seed={seed}",
            f"model.name={start}",
            "model.warm_start=",
            *overrides,
        ]
        final = trained(out / f"dpo-{seed}", RECIPE, own)
        spec = spec_load(RECIPE, own)
        # While it trains, the recipe looks at a few held-out pairs; here all of them count.
        whole = spec.data.eval[0].model_copy(update={"limit": 0})
        train, held_out = (
            rows_load(source, seed=seed, wanted=PAIR).rows for source in (spec.data.train[0], whole)
        )
        judgements = judge(start, final, train, held_out)
        report["seeds"][seed] = {
            "pairs": [len(train), len(held_out)],
            "accuracy": {
                name: [float(on_train.mean()), float(on_held_out.mean())]
                for name, (on_train, on_held_out) in judgements.items()
            },
        }
        print(f"seed {seed}: {report['seeds'][seed]}", flush=True)
        problems = [row["prompt"] for row in held_out]
        for name, (_, right) in judgements.items():
            judged = Judged(right, problems)
            pooled[name] = pooled[name].with_more(judged) if name in pooled else judged
    report["pooled"] = {
        name: {
            "train": float(
                np.mean([of_seed["accuracy"][name][0] for of_seed in report["seeds"].values()])
            ),
            "held_out": float(judged.right.mean()),
            "interval": interval(judged),
            "pairs": len(judged.right),
            "problems": len(set(judged.problems)),
        }
        for name, judged in pooled.items()
    }
    return report


def judge(
    start: Path, final: Path, train: Sequence[Row], held_out: Sequence[Row]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Method -> its verdicts on the training pairs and on the held-out pairs."""
    rows = [*train, *held_out]
    before, after = log_probabilities(start, rows), log_probabilities(final, rows)
    words = np.concatenate(by_words(train, held_out))
    margins = {
        "DPO, implicit reward": (after - before) @ [1, -1],
        "DPO, raw log-probability": after @ [1, -1],
        "start model, raw log-probability": before @ [1, -1],
        "length alone": by_length(train, rows),
        "words, logistic regression": words,
    }
    cut = len(train)
    return {
        name: (decided(values[:cut]), decided(values[cut:])) for name, values in margins.items()
    }


def table(report: dict[str, Any]) -> str:
    """The pooled result as Markdown."""
    lines = [
        "| method | training pairs | held-out pairs | 95 % interval (by problem) |",
        "| --- | --- | --- | --- |",
    ]
    for name, of in report["pooled"].items():
        low, high = of["interval"]
        lines.append(
            f"| {name} | {of['train']:.3f} | {of['held_out']:.3f} | {low:.3f} to {high:.3f} |"
        )
    one = next(iter(report["pooled"].values()))
    lines.append(f"\n{one['pairs']} held-out pairs of {one['problems']} problems over the seeds.")
    return "\n".join(lines)


def main() -> None:
    """Run, print the table, write report.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="key.path=value, for the DPO run")
    arguments = parser.parse_args()
    report = compare(arguments.out, arguments.seeds, arguments.overrides)
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1))
    print(table(report))


if __name__ == "__main__":
    main()
