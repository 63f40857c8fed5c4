"""The bench's statistics and baselines, and the recipe it runs, at a tiny scale."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.gsm8k_pairs import Judged, by_length, by_words, compare, decided, interval, table
from trainer.recipebook import recipe_find, recipe_read
from trainer.rows import rows_load
from trainer.spec import DataSource, spec_parse

DATA = Path(__file__).parents[1] / "data"
PAIR = frozenset({"prompt", "chosen", "rejected"})
NAMES = [
    ("gsm8k_train.jsonl", "gsm8k_model_solutions.jsonl"),
    ("train.jsonl", "example_model_solutions.jsonl"),
]


@pytest.fixture
def gsm8k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample of 200 problems under the names that upstream uses."""
    return sample(tmp_path / "gsm8k", NAMES[1], monkeypatch)


def sample(folder: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    shutil.copy(DATA / "gsm8k_train_sample.jsonl", folder / names[0])
    shutil.copy(DATA / "gsm8k_sample.jsonl", folder / names[1])
    monkeypatch.setenv("ANNEAL_GSM8K_DIR", str(folder))
    return folder


def sides(split_seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    data = recipe_read(recipe_find("gsm8k_sft_dpo")).spec["data"]
    found = [
        rows_load(
            DataSource(**{**data[key][0], "split_seed": split_seed}), seed=0, wanted=PAIR
        ).rows
        for key in ("train", "eval")
    ]
    return found[0], found[1]


@pytest.mark.parametrize("split_seed", [0, 1, 2])
def test_no_question_is_on_both_sides(gsm8k: Path, split_seed: int) -> None:
    train, held_out = sides(split_seed)
    assert train and held_out
    assert {row["prompt"] for row in train}.isdisjoint(row["prompt"] for row in held_out)
    assert len(train) + len(held_out) == len(sides(7)[0]) + len(sides(7)[1])
    problems = {row["prompt"] for row in (*train, *held_out)}
    assert 0.05 < len({row["prompt"] for row in held_out}) / len(problems) < 0.4


@pytest.mark.parametrize("names", NAMES)
def test_the_card_asks_for_nothing_once_the_files_are_there(
    tmp_path: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANNEAL_GSM8K_DIR", raising=False)
    path = recipe_find("gsm8k_sft_dpo")
    assert "download train.jsonl and example_model_solutions.jsonl" in recipe_read(path).missing
    sample(tmp_path / "gsm8k", names, monkeypatch)
    assert recipe_read(path).missing == ""


def test_a_tie_counts_half() -> None:
    assert decided(np.array([1.0, -1.0, 0.0])).tolist() == [1.0, 0.0, 0.5]


def test_an_interval_knows_that_pairs_of_a_problem_hang_together() -> None:
    draw = np.random.default_rng(0)
    by_problem = (draw.random(200) < 0.55).astype(float)
    once = Judged(by_problem, [f"p{number}" for number in range(200)])
    tenfold = Judged(np.repeat(by_problem, 10), [name for name in once.problems for _ in range(10)])
    low, high = interval(once)
    assert interval(tenfold) == pytest.approx((low, high))
    assert low < by_problem.mean() < high
    assert high - low == pytest.approx(4 * (0.55 * 0.45 / 200) ** 0.5, rel=0.2)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        rates = draw.beta(2, 2, 60)
        sizes = draw.integers(1, 5, 60)
        right = np.concatenate(
            [draw.random(n) < rate for n, rate in zip(sizes, rates, strict=True)]
        ).astype(float)
        problems = [f"p{number}" for number, n in enumerate(sizes) for _ in range(n)]
        low, high = interval(Judged(right, problems), resamples=1000, seed=trial)
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 200 <= 1.0


def test_the_length_baseline_learns_its_direction_on_training_pairs() -> None:
    train = [{"chosen": "a", "rejected": "aaa"}]
    rows = [{"chosen": "bb", "rejected": "b"}, {"chosen": "b", "rejected": "bbb"}]
    assert by_length(train, rows).tolist() == [-1.0, 2.0]


def test_the_word_baseline_finds_a_word_that_tells() -> None:
    train = [{"chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)]
    on_train, held_out = by_words(train, [{"chosen": "a good one", "rejected": "a bad one"}])
    assert (on_train > 0).all() and held_out[0] > 0


@pytest.mark.slow
def test_the_bench_runs_from_end_to_end_at_a_tiny_scale(
    gsm8k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNEAL_SCALE", "0.005")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    report = compare(tmp_path / "out", [0], ["data.train.0.limit=20", "data.eval.0.limit=20"])
    pooled = report["pooled"]
    assert set(pooled) >= {"DPO, implicit reward", "length alone", "words, logistic regression"}
    for of in pooled.values():
        assert of["interval"][0] <= of["held_out"] <= of["interval"][1]
        assert of["pairs"] > 20
    assert table(report).count("\n| ") == 6


@pytest.mark.slow
def test_the_recipe_warms_up_and_learns_from_pairs(gsm8k: Path, tmp_path: Path) -> None:
    """The recipe itself with fewer steps, warm-up and all, through the command line."""
    tiny = (
        'options = { tokenizer = "bpe", vocab_size = 300, hidden_size = 32, layers = 1, heads = 2 }'
    )
    for name in ("gsm8k_sft", "gsm8k_sft_dpo"):
        text = recipe_find(name).read_text()
        lines = [tiny if line.startswith("options =") else line for line in text.splitlines()]
        lines = ["max_steps = 2" if line.startswith("max_steps") else line for line in lines]
        text = "\n".join(lines).replace(
            'warm_start = "gsm8k_sft"', f'warm_start = "{tmp_path}/gsm8k_sft.toml"'
        )
        text = text.replace("max_prompt_tokens = 192", "max_prompt_tokens = 700")
        text = text.replace("max_tokens = 320", "max_tokens = 1400")
        spec_parse(tomllib.loads(text))
        (tmp_path / f"{name}.toml").write_text(text)
    run = tmp_path / "run"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "trainer",
            "run",
            tmp_path / "gsm8k_sft_dpo.toml",
            "resources.cpus=1",
            "--dir",
            run,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in (run / "attempt-1" / "journal.jsonl").open()]
    phases = [event["phase"] for event in events if event["type"] == "status"]
    assert any("warm" in phase for phase in phases) and "train" in phases
    values = {key for event in events if event["type"] == "metrics" for key in event["values"]}
    assert {"rewards/accuracies", "eval/pair_accuracy"} <= values
