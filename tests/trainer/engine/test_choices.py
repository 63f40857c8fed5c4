"""Choices weighed and texts scored as the harness itself does it, document by document."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.trainer.engine.support import make_policy
from trainer.engine.choices import choices_weighed
from trainer.engine.dataset import Part, parts_encode
from trainer.engine.sampler import Sampling
from trainer.engine.scoring import answers_of
from trainer.engine.seeds import answer_keys
from trainer.harness import SHIPPED, task_rows
from trainer.registry import family
from trainer.spec import Data, DataSource

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = 12


def harness(policy: Any, name: str, folder: Path = SHIPPED) -> list[dict[str, Any]]:
    """What lm_eval says of the first documents, with its own model class over the same weights."""
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    config = yaml.safe_load((folder / f"{name}.yaml").read_text())
    documents = folder / config["dataset_kwargs"]["data_files"]["test"]
    config["dataset_kwargs"]["data_files"] = {"test": str(documents)}
    model = HFLM(pretrained=policy.model, tokenizer=copy.deepcopy(policy.tokenizer), batch_size=4)
    task = ConfigurableTask(config=config)
    # What `simple_evaluate` calls, without its walk over thousands of files of shipped tasks.
    tasks = {"tasks": {name: task}, "groups": {}, "group_map": {}}
    found = evaluator.evaluate(model, tasks, limit=DOCUMENTS, bootstrap_iters=0)
    assert found is not None
    return sorted(found["samples"][name], key=lambda one: int(one["doc_id"]))


def answered(policy: Any, name: str, scorers: list[dict[str, Any]]) -> tuple[Any, Any]:
    rows = [row for row, _ in zip(task_rows(name), range(DOCUMENTS), strict=False)]
    part = Part(name, DataSource(source="harness", split="test"), rows)
    parts_encode([part], policy, Data(), "rollouts")
    sampled = policy.generator.sample(
        [example.prompt for example in part.examples],
        answer_keys(0, ["0" * 64] * DOCUMENTS, (0,)),
        Sampling(8, 0.0),
        budget=4096,
        tick=lambda: None,
    )
    for place, one in enumerate(sampled):
        one.prompt = place
    rewards = [family("rewards")["harness-task"](**knobs) for knobs in scorers]
    answers = answers_of(policy, rewards, part.examples, sampled, tick=lambda: None, budget=4096)
    return answers, [[reward.score(answer) for answer in answers] for reward in rewards]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_choices_are_weighed_as_the_harness_weighs_them():
    policy = make_policy()
    wanted = harness(policy, "sort_digits_choice")
    answers, (acc, acc_norm) = answered(
        policy, "sort_digits_choice", [{"metric": "acc"}, {"metric": "acc_norm"}]
    )
    for answer, one in zip(answers, wanted, strict=True):
        theirs = [tuple(pair) for pair in one["filtered_resps"]]
        assert [value for value, _ in answer.choices] == pytest.approx(
            [float(value) for value, _ in theirs], abs=1e-3
        )
        assert [greedy for _, greedy in answer.choices] == [str(g) == "True" for _, g in theirs]
    assert acc == [one["acc"] for one in wanted]
    assert acc_norm == [one["acc_norm"] for one in wanted]
    assert len(set(acc)) == 2


def task_write(folder: Path, policy: Any) -> None:
    """A task whose odd documents want what the model itself finds likeliest."""
    prompts = [f"sort {number}7{number} =" for number in range(DOCUMENTS)]
    sampled = policy.generator.sample(
        [policy.tokenizer(prompt)["input_ids"] for prompt in prompts],
        answer_keys(0, ["0" * 64] * DOCUMENTS, (0,)),
        Sampling(3, 0.0),
        budget=4096,
        tick=lambda: None,
    )
    texts = [policy.tokenizer.decode(one.tokens, skip_special_tokens=True) for one in sampled]
    documents = [
        {"prompt": prompt, "wanted": text if place % 2 and text.strip() else f"{text}1"}
        for place, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
    ]
    (folder / "docs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    task = {
        "task": "likely",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "docs.jsonl"}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{wanted}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        ],
    }
    (folder / "likely.yaml").write_text(yaml.safe_dump(task))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_text_is_weighed_as_the_harness_weighs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNEAL_HARNESS_DIR", str(tmp_path))
    policy = make_policy()
    task_write(tmp_path, policy)
    wanted = harness(policy, "likely", tmp_path)
    answers, (acc,) = answered(policy, "likely", [{}])
    likely = [value for answer in answers for value, _ in answer.choices]
    assert likely == pytest.approx([one["perplexity"] for one in wanted], abs=1e-3)
    assert acc == [one["acc"] for one in wanted]
    assert set(acc) == {0, 1}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_text_is_scored_as_the_harness_scores_it():
    policy = make_policy()
    wanted = harness(policy, "sort_digits")
    answers, (exact,) = answered(policy, "sort_digits", [{}])
    assert [answer.text.split("\n")[0] for answer in answers] == [
        one["resps"][0][0] for one in wanted
    ]
    assert exact == [one["exact_match"] for one in wanted]


def test_a_row_without_choices_is_not_read():
    policy = make_policy()
    part = Part("x", DataSource(source="x"), [{"prompt": "sort 321 = "}])
    parts_encode([part], policy, Data(), "rollouts")
    assert choices_weighed(policy, part.examples, tick=lambda: None, budget=64) == [[]]
