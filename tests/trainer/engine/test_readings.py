"""How likely a model finds tokens that it did not write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.trainer.engine.evaluated import ALL, answers, found_of, rows_of, timeless, torn
from tests.trainer.engine.support import make_policy, nothing
from trainer.answering import item_digest, vocabulary_digest
from trainer.engine.dataset import Example
from trainer.engine.forward import Sequences
from trainer.engine.readings import columns_read, token_logps

if TYPE_CHECKING:
    from tests.trainer.engine.support import Runs

READ = ["kind=evaluate", "evaluation.readings=true", "rewards=[]"]
AUTHOR = "a" * 64


@pytest.mark.parametrize("budget", [1, 40, 1 << 20])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_those_of_plain_transformers(policy, budget, temperature):
    prompts = [[1, 5, 6, 7], [1, 9]]
    written_by = [[8, 9, 2], [3], [], [4, 4, 4, 4, 2]]
    sequences = Sequences(prompts, written_by, [0, 1, 0, 1])
    found = token_logps(policy, sequences, tick=nothing, budget=budget, temperature=temperature)
    assert [len(logps) for logps in found] == [3, 1, 0, 5]
    for prompt, answer, logps in zip(sequences.prompt_of, written_by, found, strict=True):
        ids = torch.tensor([prompts[prompt] + answer])
        with torch.no_grad():
            logits = policy.model(ids).logits[0] / temperature
        logp = logits.log_softmax(-1)
        first = len(prompts[prompt])
        expected = [float(logp[first + t - 1, token]) for t, token in enumerate(answer)]
        assert logps == pytest.approx(expected, abs=1e-4)


def test_columns_are_read_as_answers_with_their_end(policy):
    def example(**row: Any) -> Example:
        ids = policy.tokenizer("sort 21 = ")["input_ids"]
        return Example("e", {"prompt": "sort 21 = ", **row}, ids, ())

    examples = [example(answer="12"), example(), example(answer=12), example(answer=["12"])]
    found = columns_read(policy, examples, ["answer"], tick=nothing)
    assert [list(one) for one in found] == [["answer"], [], ["answer"], []]
    assert len(found[0]["answer"]) == 3
    assert found[0]["answer"] == pytest.approx(found[2]["answer"], abs=1e-5)
    ids = policy.tokenizer("12", add_special_tokens=False)["input_ids"]
    sequences = Sequences([examples[0].prompt], [[*ids, policy.eos_ids[0]]], [0])
    (expected,) = token_logps(policy, sequences, tick=nothing)
    assert found[0]["answer"] == pytest.approx(expected, abs=1e-5)


def test_a_text_that_does_not_fit_the_model_is_left_out():
    policy = make_policy()
    room = policy.model.config.max_position_embeddings
    row = {"prompt": "sort 1 = ", "answer": "1" * room}
    example = Example("e", row, policy.tokenizer(row["prompt"])["input_ids"], ())
    assert columns_read(policy, [example], ["answer"], tick=nothing) == [{}]


def vocabulary(runs: Runs, name: str) -> str:
    found = [
        e["data"]["vocabulary"] for e in runs.events(name) if "vocabulary" in e.get("data", {})
    ]
    assert len(found) == 1
    return found[0]


def carried(rows: list[dict[str, Any]], events: list[dict[str, Any]], words: str) -> list[Any]:
    """The rows with the answers that an author wrote to them."""
    return [
        row
        | {
            "_answers": [
                {
                    "index": event["index"],
                    "model": AUTHOR,
                    "token_ids": event["token_ids"],
                    "vocabulary": words,
                }
                for event in events
                if event["item"] == item_digest(row)
            ]
        }
        for row in rows
    ]


def read_of(runs: Runs, name: str) -> list[dict[str, Any]]:
    return found_of(runs, name, "reading")


def test_a_model_finds_its_own_answers_as_likely_as_it_drew_them(runs, written):
    rows = rows_of(4)
    runs.run("author", *ALL, written(rows), "evaluation.temperature=0.7")
    wrote = answers(runs, "author")
    job = carried(rows, wrote, vocabulary(runs, "author"))
    knobs = [written(job, "job"), "evaluation.temperature=0.7"]
    assert runs.run("reader", *READ, *knobs) == 0
    found = read_of(runs, "reader")
    assert [(e["item"], e["index"]) for e in found] == [(e["item"], e["index"]) for e in wrote]
    for event, author in zip(found, wrote, strict=True):
        assert (event["model"], event["problem"]) == (AUTHOR, "")
        assert event["logps"] == pytest.approx(author["logps"], abs=1e-4)
        assert "".join(event["pieces"]) == author["text"]
        assert len(event["pieces"]) == len(event["logps"])
    other = runs.run("other", *READ, *knobs, "seed=5")
    assert other == 0 and read_of(runs, "other")[0]["logps"] != found[0]["logps"]
    torn(runs, "reader", 5)
    assert runs.resume("reader") == 0
    assert timeless(read_of(runs, "reader")) == timeless(found)


def test_another_vocabulary_is_refused_whatever_its_size(runs, written):
    rows = rows_of(2)
    runs.run("author", *ALL, written(rows))
    words = vocabulary(runs, "author")
    job = carried(rows, answers(runs, "author"), words)
    for entry in job[1]["_answers"]:
        entry["vocabulary"] = vocabulary_digest({"a": 0})
    assert runs.run("reader", *READ, written(job, "job")) == 0
    for event in read_of(runs, "reader"):
        differs = event["item"] == item_digest(rows[1])
        assert ("another vocabulary" in event["problem"]) == differs
        assert (event["logps"] == []) == differs


def test_the_same_tokens_under_other_numbers_are_another_vocabulary():
    tokens = {"a": 0, "b": 1, "c": 2}
    assert vocabulary_digest(tokens) == vocabulary_digest(dict(reversed(tokens.items())))
    assert vocabulary_digest({"a": 0, "b": 2, "c": 1}) != vocabulary_digest(tokens)
    assert vocabulary_digest({"a": 0, "b": 1, "d": 2}) != vocabulary_digest(tokens)


def test_what_cannot_be_read_is_a_problem(runs, written):
    rows = rows_of(2)
    runs.run("author", *ALL, written(rows))
    words = vocabulary(runs, "author")
    entries = [
        {"index": 0, "model": AUTHOR, "token_ids": [999_999], "vocabulary": words},
        {"index": 1, "model": AUTHOR, "token_ids": [5] * 5000, "vocabulary": words},
        {"index": 2, "model": AUTHOR, "token_ids": [], "vocabulary": words},
    ]
    job = [
        rows[0] | {"_answers": entries},
        {"prompt": "sort " + "7" * 60, "answer": "7", "_answers": entries[2:]},
    ]
    assert runs.run("reader", *READ, written(job, "job")) == 0
    found = read_of(runs, "reader")
    assert [event["problem"].split(" ")[0] for event in found] == ["it", "prompt", "", "prompt"]
    assert all(event["logps"] == [] for event in found)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "p"}], "evaluation.readings: no row carries answers to read in '_answers'"),
        ([{"prompt": "p", "_answers": 3}], "'_answers' must be a list of objects"),
        ([{"prompt": "p", "_answers": [{"index": 0}]}], "needs a list 'token_ids'"),
        ([{"prompt": "p", "_answers": [{"token_ids": [], "index": -1}]}], "index must be from 0"),
        (
            [{"prompt": "p", "_answers": [{"token_ids": [], "index": 0, "model": AUTHOR}]}],
            "needs a text 'vocabulary'",
        ),
    ],
)
def test_rows_that_hold_nothing_to_read_are_named(runs, written, rows, said):
    assert runs.run("reader", *READ, written(rows)) == 2
    assert said in json.dumps(runs.end("reader")["message"])
