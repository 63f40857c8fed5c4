"""Reward models learn: micro-batches, held-out figures, whole runs, resuming, what is refused."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.trainer.engine.support import make_policy
from trainer.__main__ import main as command
from trainer.control import Control
from trainer.engine.dataset import Cursor, Part, parts_encode, parts_load
from trainer.engine.means import Means
from trainer.engine.rankings import RankingLearner, outputs_wanted, ranking_values, spearman
from trainer.engine.reference import Reference
from trainer.engine.scorer import plain_scores, scorer_make
from trainer.engine.state import State
from trainer.registry import family
from trainer.spec import DataSource, RunSpec, spec_parse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trainer.engine.support import Runs
    from trainer.engine.dataset import Example
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session

NAMES = {"pairs": ("reward",), "ratings": ("brief", "right")}
METHODS: list[dict[str, Any]] = [
    {"type": "bradley-terry"},
    {"type": "bradley-terry", "margin": "subtract", "center_rewards": 0.1},
    {"type": "bradley-terry", "margin": "scale"},
    {"type": "rating-regression"},
]


def rows(learns_from: str, count: int = 10) -> list[dict[str, Any]]:
    """Pairs with margins, or answers rated twice, some ratings missing."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        digits = f"{(number * 37 + 11) % 1000:03}"[: 1 + number % 3] + "5"
        right, prompt = "".join(sorted(digits)), f"sort {digits} = "
        if learns_from == "pairs":
            wrong = right[::-1] + "9" * (number % 2)
            found.append(
                {"prompt": prompt, "chosen": right, "rejected": wrong + "1" if number % 2 else "0"}
            )
            found[-1]["margin"] = number % 4 / 2
        else:
            rating = {"right": number % 5, "brief": None if number % 3 == 0 else number / 4}
            found.append({"prompt": prompt, "completion": digits, "rating": rating})
    return found


@pytest.fixture
def written(tmp_path: Path) -> dict[str, str]:
    """A file of rows of each kind."""
    for kind in NAMES:
        text = "".join(json.dumps(row) + "\n" for row in rows(kind))
        (tmp_path / f"{kind}.jsonl").write_text(text)
    return {kind: str(tmp_path / f"{kind}.jsonl") for kind in NAMES}


def make_spec(source: str, objective: dict[str, Any], **parts: Any) -> RunSpec:
    model = {"name": "starter", "options": {"hidden_size": 32, "layers": 2, "heads": 2}}
    data = {"train": [{"source": source}], "eval": [{"source": source, "limit": 7}]}
    batch = {"prompts_per_step": 8} | parts.pop("batch", {})
    return spec_parse(
        {"model": model, "data": data, "objective": objective, "batch": batch, **parts}
    )


def make_learner(
    session: Session, source: str, objective: dict[str, Any], **batch: Any
) -> tuple[RankingLearner, Policy]:
    spec = make_spec(source, objective, batch=batch)
    learns_from = spec.objective.learns_from
    policy = make_policy()
    scorer_make(policy, NAMES[learns_from], 0)
    with torch.no_grad():
        policy.model.score.weight.mul_(10)
    parts = parts_load(spec.data.train, seed=0, learns_from=learns_from, datasets={})
    assert outputs_wanted(spec.objective, parts) == NAMES[learns_from]
    parts_encode(parts, policy, spec.data, learns_from)
    cursor = Cursor(parts, spec.curriculum, 0)
    learner = RankingLearner(session, spec, policy, Reference(make_policy), cursor)
    learner.gather(State(visited=cursor.start()), Means())
    return learner, policy


def gradient(learner: RankingLearner) -> tuple[float, torch.Tensor, dict[str, float]]:
    model, means, total = learner.policy.model, Means(), 0.0
    model.zero_grad()
    for loss in learner.losses(State(), means):
        loss.value.backward()
        total += loss.value.item()
        means.add_loss(loss)
    return total, torch.cat([p.grad.flatten() for p in model.parameters()]), means.values()


def kind_of(objective: dict[str, Any]) -> str:
    return "ratings" if objective["type"] == "rating-regression" else "pairs"


def plain_of(policy: Policy, examples: list[Example]) -> torch.Tensor:
    """Scores (A, K) of every answer by transformers' own forward pass."""
    from trainer.engine.offline import sequences_of

    sequences = sequences_of(examples)
    return plain_scores(policy, sequences, range(len(sequences.answers)))


@pytest.mark.parametrize("objective", METHODS, ids=str)
def test_micro_batches_change_neither_gradient_nor_metrics(
    session: Session, written: dict[str, str], objective: dict[str, Any]
) -> None:
    found = []
    for batch in (
        {"tokens_per_microbatch": 1 << 20},
        {"tokens_per_microbatch": 1},
        {"tokens_per_microbatch": 45},
        {"tokens_per_microbatch": 70, "packing": "none"},
    ):
        learner, _ = make_learner(session, written[kind_of(objective)], objective, **batch)
        found.append(gradient(learner))
    # Without shared prefixes a pair is two rows, which must stay together.
    learner, policy = make_learner(
        session, written[kind_of(objective)], objective, tokens_per_microbatch=1
    )
    policy.shared_prefix = False
    found.append(gradient(learner))
    assert found[0][1].norm() > 0
    for loss, grad, values in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert (grad - found[0][1]).norm() / found[0][1].norm() < 1e-5
        assert values == pytest.approx(found[0][2], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("objective", METHODS, ids=str)
def test_the_loss_is_that_of_whole_sequences_in_plain_transformers(
    session: Session, written: dict[str, str], objective: dict[str, Any]
) -> None:
    learner, policy = make_learner(session, written[kind_of(objective)], objective)
    scores = plain_of(policy, learner.examples)
    taken = [example.row for example in learner.examples]
    if kind_of(objective) == "ratings":
        nan = float("nan")
        wanted = torch.tensor(
            [[nan if r["rating"][q] is None else float(r["rating"][q]) for q in NAMES["ratings"]]
             for r in taken]
        )  # fmt: skip
        loss = ((scores - wanted) ** 2).nanmean()
    else:
        w, l, m = scores[0::2, 0], scores[1::2, 0], torch.tensor([r["margin"] for r in taken])  # noqa: E741
        how = objective.get("margin", "none")
        losses = torch.log1p(torch.exp(-(w - l - (m if how == "subtract" else 0))))
        loss = (losses * (m if how == "scale" else 1)).mean()
        loss = loss + objective.get("center_rewards", 0) * ((w + l) ** 2).mean()
    assert gradient(learner)[0] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("objective", [METHODS[0], METHODS[3]], ids=str)
def test_what_stands_in_padding_changes_no_bit(
    session: Session, written: dict[str, str], objective: dict[str, Any]
) -> None:
    learner, policy = make_learner(session, written[kind_of(objective)], objective)
    before = gradient(learner)
    policy.pad_id = 5
    after = gradient(learner)
    assert before[0] == after[0] and torch.equal(before[1], after[1])


def test_held_out_pairs_are_counted_by_hand(session: Session, written: dict[str, str]) -> None:
    learner, policy = make_learner(session, written["pairs"], METHODS[1], tokens_per_microbatch=50)
    spec = learner.spec
    with torch.no_grad():
        found = ranking_values(policy, spec.objective, learner.examples, spec.batch, lambda: None)
        scores = plain_of(policy, learner.examples)
    gap = scores[0::2, 0] - scores[1::2, 0]
    assert 0 < found["pair_accuracy"] < 1
    assert found["pair_accuracy"] == (gap > 0).float().mean().item()
    assert found["margins"] == pytest.approx(gap.mean().item(), rel=1e-4)
    assert found["loss"] == pytest.approx(gradient(learner)[0], rel=1e-5)


def test_held_out_ratings_are_counted_by_hand(session: Session, written: dict[str, str]) -> None:
    learner, policy = make_learner(
        session, written["ratings"], METHODS[3], tokens_per_microbatch=50
    )
    spec = learner.spec
    with torch.no_grad():
        found = ranking_values(policy, spec.objective, learner.examples, spec.batch, lambda: None)
        scores = plain_of(policy, learner.examples).numpy()
    correlations, squares = [], []
    for column, name in enumerate(NAMES["ratings"]):
        ratings = [example.row["rating"][name] for example in learner.examples]
        known = np.array([r is not None for r in ratings])
        wanted = np.array([r for r in ratings if r is not None])
        error = (scores[known, column] - wanted) ** 2
        squares += list(error)
        assert found[f"ratings/{name}/mse"] == pytest.approx(error.mean(), rel=1e-4)
        correlations.append(spearmanr(scores[known, column], wanted).statistic)
        assert found[f"ratings/{name}/spearman"] == pytest.approx(correlations[-1], abs=1e-6)
    assert found["spearman"] == pytest.approx(np.mean(correlations), abs=1e-6)
    assert found["loss"] == pytest.approx(np.mean(squares), rel=1e-4)


def test_rank_correlation_equals_scipy_with_ties() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        one, other = draw.integers(0, 5, 30), draw.normal(size=30).round(1)
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert spearman(np.ones(4), np.arange(4)) is None
    assert spearman(np.ones(1), np.ones(1)) is None


# --- whole runs ----------------------------------------------------------------------------------


def overrides(source: str, objective: dict[str, Any]) -> list[str]:
    """Of the tiny spec of the engine's tests, which also samples."""
    knobs = [f"objective.{key}={value}" for key, value in objective.items()]
    sources = f'[{{source = "{source}"}}]'
    return [*knobs, f"data.train={sources}", f"data.eval={sources}", "rewards=[]", "rollout={}"]


@pytest.mark.parametrize("objective", [METHODS[1], METHODS[3]], ids=str)
@pytest.mark.parametrize("step", [1, 4])
def test_a_run_stopped_and_resumed_equals_the_run_never_stopped(
    runs: Runs, stop_after: Any, written: dict[str, str], objective: dict[str, Any], step: int
) -> None:
    how = overrides(written[kind_of(objective)], objective)
    assert runs.run("calm", *how) == 0
    stop_after(runs.dir("stopped"), 1, step, Control("stop"))
    assert runs.run("stopped", *how) == 3
    assert runs.resume("stopped") == 0
    assert runs.checkpoint_bytes("calm", 6) == runs.checkpoint_bytes("stopped", 6)
    assert runs.metrics("calm") == runs.metrics("stopped")
    keys = {key for _, key in runs.metrics("calm")}
    wanted = {"loss", "mean_reward", "min_reward", "max_reward", "eval/loss"}
    pairs = {"accuracy", "margin", "eval/pair_accuracy", "eval/margins", "eval/pairs/margins"}
    rated = {"ratings/right/mse", "eval/ratings/brief/spearman", "eval/spearman"}
    assert keys >= wanted | (pairs if kind_of(objective) == "pairs" else rated)


def test_a_checkpoint_is_a_classifier_that_knows_what_was_learned(
    runs: Runs, written: dict[str, str]
) -> None:
    how = overrides(written["pairs"], METHODS[0])
    assert runs.run("run", *how, "budget.max_steps=40", "checkpoint.every_steps=0") == 0
    folder = runs.dir("run").checkpoint(40)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_labels == 1
    wins = []
    for row in rows("pairs"):
        texts = [row["prompt"] + row[side] + tokenizer.eos_token for side in ("chosen", "rejected")]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            scores = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        wins.append(scores.logits[0].item() > scores.logits[1].item())
    assert runs.metrics("run")[40, "eval/pair_accuracy"] == sum(wins) / len(wins) == 1.0


def test_it_starts_from_a_warmed_up_language_model(
    runs: Runs, written: dict[str, str], tmp_path: Path
) -> None:
    recipe = tmp_path / "warm.toml"
    recipe.write_text(
        '[data]\ntrain = [{ source = "noisy-sort", limit = 12, options = { digits = 3 } }]\n'
        '[objective]\ntype = "sft"\n[budget]\nmax_steps = 3\n[batch]\nprompts_per_step = 4\n'
    )
    how = overrides(written["pairs"], METHODS[0])
    assert runs.run("run", *how, f"model.warm_start={recipe}") == 0
    keys = {key for _, key in runs.metrics("run")}
    assert {"warmup/loss", "eval/pair_accuracy"} <= keys


def test_ratings_may_prepare_a_model_for_preferences(
    runs: Runs, stop_after: Any, written: dict[str, str], tmp_path: Path
) -> None:
    """Scaled Bradley-Terry from a regression model, as in arXiv 2410.01257; stopped on the way."""
    text = "".join(
        json.dumps({**row, "rating": number % 5}) + "\n"
        for number, row in enumerate(rows("ratings"))
    )
    (tmp_path / "one.jsonl").write_text(text)
    recipe = tmp_path / "warm.toml"
    recipe.write_text(
        f'[data]\ntrain = [{{ source = "{tmp_path / "one.jsonl"}" }}]\n[budget]\nmax_steps = 4\n'
        '[objective]\ntype = "rating-regression"\n[batch]\nprompts_per_step = 4\n'
        "[checkpoint]\nevery_steps = 2\n"
    )
    how = [*overrides(written["pairs"], METHODS[2]), f"model.warm_start={recipe}"]
    assert runs.run("calm", *how) == 0
    assert {(4, "warmup/ratings/rating/mse"), (6, "margin")} <= set(runs.metrics("calm"))
    stop_after(runs.dir("stopped"), 1, 3, Control("stop"), "warmup/loss")
    assert runs.run("stopped", *how) == 3 and runs.resume("stopped") == 0
    assert runs.checkpoint_bytes("calm", 6) == runs.checkpoint_bytes("stopped", 6)
    assert runs.metrics("calm") == runs.metrics("stopped")


def test_half_precision_trains_too(runs: Runs, written: dict[str, str]) -> None:
    how = overrides(written["pairs"], METHODS[0])
    assert runs.run("full", *how) == 0
    assert runs.run("half", *how, "model.dtype=bfloat16") == 0
    full, half = runs.metrics("full"), runs.metrics("half")
    assert half[0, "eval/loss"] != full[0, "eval/loss"]
    assert half[0, "eval/loss"] == pytest.approx(full[0, "eval/loss"], rel=0.02)


def test_a_reward_model_goes_on_from_one_and_cannot_become_a_writer(
    runs: Runs, written: dict[str, str]
) -> None:
    pairs = overrides(written["pairs"], METHODS[0])
    assert runs.run("first", *pairs) == 0
    folder = runs.dir("first").checkpoint(6)
    on = [f"model.name={folder}", "model.options={}"]
    assert runs.run("second", *pairs, *on) == 0
    before, after = (runs.metrics(name) for name in ("first", "second"))
    assert after[0, "eval/loss"] == pytest.approx(before[6, "eval/loss"], rel=1e-6)
    for name, objective in (("sft", ["objective.type=sft"]), ("grpo", ["objective.type=grpo"])):
        assert runs.run(name, *objective, *on) == 2
        assert "is a reward model, it ends in scores and cannot write" in runs.end(name)["message"]
    assert runs.run("rated", *overrides(written["ratings"], METHODS[3]), *on) == 2
    assert "has 1 outputs (reward), the data needs 2" in runs.end("rated")["message"]


@pytest.mark.slow
def test_the_recipe_learns_to_tell_sorted_from_shuffled(runs: Runs) -> None:
    recipe = "noisy_sort_reward_model"
    how = ["budget.max_steps=20", "evaluation.every_steps=0", "data.eval.0.limit=128"]
    assert command(["run", recipe, "--dir", str(runs.folder / "run"), *how]) == 0
    found = runs.metrics("run")
    assert found[20, "eval/pair_accuracy"] > 0.95
    assert found[20, "eval/margins"] > 1 and found[20, "eval/loss"] < 0.4


def test_padding_that_was_changed_is_told(
    runs: Runs, written: dict[str, str], tmp_path: Path
) -> None:
    policy = make_policy()
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    policy.model.save_pretrained(tmp_path / "start")
    policy.tokenizer.save_pretrained(tmp_path / "start")
    on = [f"model.name={tmp_path / 'start'}", "model.options={}"]
    assert runs.run("run", *overrides(written["pairs"], METHODS[0]), *on) == 0
    alerts = [event for event in runs.events("run") if event["type"] == "alert"]
    assert ["pads with the end token" in alert["message"] for alert in alerts] == [True]


# --- what is refused -----------------------------------------------------------------------------


def part(name: str, *some: dict[str, Any]) -> Part:
    return Part(name, DataSource(source="noisy-sort"), list(some))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({}, "this row has none"),
        ({"margin": "much"}, "this row has 'much'"),
        ({"margin": -1}, "this row has -1"),
        ({"margin": math.nan}, "this row has nan"),
        ({"margin": True}, "this row has True"),
    ],
)
def test_a_missing_margin_is_named_where_it_matters(row: dict[str, Any], fault: str) -> None:
    here = part("here", {"margin": 1}, row)
    method = family("objectives")["bradley-terry"]
    assert outputs_wanted(method(type="bradley-terry"), [here]) == ("reward",)  # type: ignore[call-arg]
    for margin in ("subtract", "scale"):
        wants: Any = method(type="bradley-terry", margin=margin)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match=rf"here: row 2: .* column 'margin'.*{fault}"):
            outputs_wanted(wants, [here])


def test_sources_that_rate_other_qualities_are_refused() -> None:
    objective: Any = family("objectives")["rating-regression"](type="rating-regression")  # type: ignore[call-arg]
    one, other = part("one", {"rating": {"a": 1}}), part("other", {"rating": {"b": 1}})
    assert outputs_wanted(objective, [one]) == ("a",)
    with pytest.raises(ValueError, match="other: rates b, but one rates a"):
        outputs_wanted(objective, [one, other])
    sft: Any = family("objectives")["sft"](type="sft")  # type: ignore[call-arg]
    assert outputs_wanted(sft, [one]) == ()
