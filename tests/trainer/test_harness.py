"""What is refused of a harness task, in a sentence that names the field; and what its templates may do."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from trainer.harness import CHOICES, COLUMN, document_score, task_rows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("default")

TASK: dict[str, Any] = {
    "task": "mine",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "docs.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{q}} A: ",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
LIKELY = {"output_type": "loglikelihood"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANNEAL_HARNESS_DIR", str(tmp_path / "tasks"))
    (tmp_path / "tasks").mkdir()
    docs = [{"q": "2 > 1?", "gold": 0}, {"q": "1 > 2?", "gold": 1}]
    text = "".join(json.dumps(one) + "\n" for one in docs)
    (tmp_path / "tasks" / "docs.jsonl").write_text(text)
    (tmp_path / "outside.jsonl").write_text(text)
    return tmp_path / "tasks"


def refusal(folder: Path, **changed: Any) -> str:
    (folder / "mine.yaml").write_text(json.dumps({**TASK, **changed}))
    with pytest.raises(ValueError) as caught:
        list(task_rows("mine"))
    return str(caught.value)


def test_a_task_gives_the_rows_that_the_harness_asks(folder, monkeypatch):
    def reached(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", reached)
    (folder / "mine.yaml").write_text(json.dumps(TASK))
    rows = list(task_rows("mine"))
    assert [row["prompt"] for row in rows] == ["Q: 2 > 1? A:", "Q: 1 > 2? A:"]
    # The white space at the end of the context belongs to the choices.
    assert rows[0][CHOICES] == ["  yes", "  no"]
    assert [row["answer"] for row in rows] == ["yes", "no"]
    assert rows[1][COLUMN]["doc"] == {"q": "1 > 2?", "gold": 1}
    likely = [(-1.0, False), (-2.0, False)]
    assert [document_score(row, likely, "acc", "") for row in rows] == [1.0, 0.0]


def test_a_text_to_be_weighed_is_the_only_choice(folder):
    kind = {"output_type": "loglikelihood", "doc_to_target": "{{['yes', 'no'][gold]}}"}
    both = [{"metric": "perplexity"}, TASK["metric_list"][0]]
    for metrics in ({}, {"metric_list": both}):
        fields = {
            key: value for key, value in TASK.items() if key not in ("doc_to_choice", "metric_list")
        }
        (folder / "mine.yaml").write_text(json.dumps({**fields, **kind, **metrics}))
        rows = list(task_rows("mine"))
        assert [(row["prompt"], row[CHOICES], row["answer"]) for row in rows] == [
            ("Q: 2 > 1? A:", [" yes"], "yes"),
            ("Q: 1 > 2? A:", [" no"], "no"),
        ]
        assert [document_score(rows[0], [(-1.0, told)], "", "") for told in (True, False)] == [1, 0]
        with pytest.raises(ValueError, match="the task measures acc, not perplexity"):
            document_score(rows[0], [(-1.0, True)], "perplexity", "")


@pytest.mark.parametrize("target", ["gold", "{{[q, q]}}"])
def test_what_is_no_text_cannot_be_weighed(folder, target):
    fields = {
        key: value for key, value in TASK.items() if key not in ("doc_to_choice", "metric_list")
    }
    (folder / "mine.yaml").write_text(json.dumps({**fields, **LIKELY, "doc_to_target": target}))
    with pytest.raises(ValueError, match=r"doc_to_target: document 0 gives .*, which is no text"):
        list(task_rows("mine"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dataset_path": "EleutherAI/hendrycks_math"}, "dataset_path: .* would be downloaded"),
        ({"dataset_kwargs": {"data_files": {"test": "none.jsonl"}}}, "data_files: there is no file"),
        ({"dataset_kwargs": {"data_files": {"test": "../outside.jsonl"}}}, "must lie in the folder"),
        ({"dataset_kwargs": {"data_files": {"test": "https://x.y/z.json"}}}, "must lie in the folder"),
        ({"dataset_kwargs": {"data_files": "docs.jsonl", "trust_remote_code": True}}, "nothing else"),
        ({"metric_list": [{"metric": "wizardry"}]}, "metric_list: wizardry"),
        ({"metric_list": "acc"}, "metric_list: must be a list"),
        ({**LIKELY, "metric_list": [{"metric": "perplexity"}]}, "all documents together; add acc"),
        ({**LIKELY, "metric_list": [{"metric": "acc_norm"}]}, "has acc, not acc_norm"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "metric_list: acc"),
        ({"output_type": "loglikelihood_rolling"}, "scorer perplexity reads whole"),
        ({"class": "x.Y"}, "class: "),
        ({"include": "other.yaml"}, "include: "),
        ({"test_split": "dev"}, "test_split: dev"),
        ({"doc_to_text": "{{ q.__class__.__mro__ }}"}, "SecurityError"),
    ],
)  # fmt: skip
def test_a_task_that_would_download_or_run_code_is_refused(folder, changed, words):
    import re

    assert re.search(words, refusal(folder, **changed))


def test_a_function_and_broken_text_are_refused(folder):
    (folder / "code.yaml").write_text("task: x\nprocess_docs: !function utils.run\n")
    with pytest.raises(ValueError, match=r"!function"):
        list(task_rows("code"))
    (folder / "broken.yaml").write_text("task: [x\n")
    with pytest.raises(ValueError, match=r"broken\.yaml is not YAML"):
        list(task_rows("broken"))
    for name in ("../mine", "nowhere"):
        with pytest.raises(ValueError, match="task: "):
            list(task_rows(name))
