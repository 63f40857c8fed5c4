"""Digests: the same question has the same name, another one has another."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from trainer.answering import (
    item_digest,
    judge_digest,
    sampling_digest,
    sampling_of,
    scorer_digest,
    scorer_digests,
)
from trainer.rows import rows_load
from trainer.spec import DataSource, spec_parse

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"prompt": "2 + 2 =", "answer": "4", "level": 3, "more": {"b": [1, 2.5], "a": None}}


def test_an_item_is_its_sorted_compact_json() -> None:
    text = '{"answer":"4","level":3,"more":{"a":null,"b":[1,2.5]},"prompt":"2 + 2 ="}'
    assert item_digest(ROW) == hashlib.sha256(text.encode()).hexdigest()


def test_what_is_no_part_of_the_question_leaves_the_digest_alone() -> None:
    known = item_digest(ROW)
    assert item_digest(dict(reversed(ROW.items()))) == known
    assert item_digest({**ROW, "id": "7", "_samples": [0, 3], "_answers": []}) == known
    assert item_digest({**ROW, "level": 3.0}) == known


@pytest.mark.parametrize("change", [{"prompt": "2 + 2 = "}, {"level": 4}, {"new": None}])
def test_any_other_change_is_another_item(change: dict[str, Any]) -> None:
    assert item_digest({**ROW, **change}) != item_digest(ROW)


def test_any_text_has_a_digest() -> None:
    assert item_digest({"prompt": "\ud800"}) != item_digest({"prompt": "\ufffd"})


def test_rows_that_were_loaded_once_keep_their_digest(tmp_path: Path) -> None:
    """A job's file holds rows that were loaded before: loading them again must not make others of them."""
    raw = [
        {"question": "q", "answer": "a #### 4", "x": 1.0},
        {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "v"}]},
        {"prompt": "p", "completion": [{"role": "assistant", "content": "c"}]},
    ]
    for number, row in enumerate(raw):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row) + "\n")
        once = rows_load(DataSource(source=str(path)), seed=0, wanted=frozenset({"prompt"})).rows
        path.write_text("".join(json.dumps(found) + "\n" for found in once))
        again = rows_load(DataSource(source=str(path)), seed=0, wanted=frozenset({"prompt"})).rows
        assert [item_digest(r) for r in again] == [item_digest(r) for r in once]


def test_a_way_of_sampling_has_its_defaults_filled_in() -> None:
    whole = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_new_tokens": 32}
    assert sampling_digest({}, 0) == sampling_digest(whole, 0)
    assert sampling_digest({"temperature": 1, "samples": 9}, 0) == sampling_digest(whole, 0)
    assert sampling_digest({"max_new_tokens": 0}, 0) == sampling_digest(whole, 0)


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.5}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}, {"max_new_tokens": 31}],
)
def test_another_way_of_sampling_has_another_digest(change: dict[str, Any]) -> None:
    assert sampling_digest(change, 0) != sampling_digest({}, 0)
    assert sampling_digest({}, 1) != sampling_digest({}, 0)


def test_a_spec_tells_how_its_evaluation_samples() -> None:
    raw = {
        "kind": "evaluate",
        "data": {"eval": [{"source": "noisy-sort"}]},
        "rewards": [{"type": "exact-match"}],
        "evaluation": {"temperature": 0.5, "max_new_tokens": 7},
    }
    asked = {"temperature": 0.5, "max_new_tokens": 7, "samples": 4}
    for spec in (raw, spec_parse(raw).model_dump(mode="json")):
        assert sampling_digest(sampling_of(spec), 3) == sampling_digest(asked, 3)
    longer = {"rollout": {"max_new_tokens": 9}}
    assert sampling_of(longer)["max_new_tokens"] == 9


def test_a_scorer_is_its_knobs_and_its_code() -> None:
    plain = scorer_digest({"type": "exact-match"}, "code")
    shown = {"type": "exact-match", "name": "right", "weight": 0.5, "column": "answer"}
    assert scorer_digest(shown, "code") == plain
    assert scorer_digest({"type": "exact-match", "ignore_case": True}, "code") != plain
    assert scorer_digest({"type": "exact-match"}, "other code") != plain


def test_scorers_are_told_by_their_labels() -> None:
    found = scorer_digests([{"type": "exact-match"}, {"type": "exact-match", "name": "again"}])
    assert found.keys() == {"exact-match", "again"}
    assert len(set(found.values())) == 1


def test_a_scorer_whose_knobs_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="ignore_case"):
        scorer_digest({"type": "exact-match", "ignore_case": "perhaps"}, "code")


def test_a_judge_is_whom_it_asks_what_not_how_often() -> None:
    judge = {"type": "pairwise-judge", "url": "http://127.0.0.1:1/v1", "model": "m"}
    plain = judge_digest(judge)
    how = {"retries": 0, "parallel": 9, "timeout_seconds": 5, "key_variable": "ANNEAL_JUDGE_A"}
    assert judge_digest({**judge, **how, "swap": False, "column": ""}) == plain
    for change in ({"model": "n"}, {"instruction": "Look."}, {"temperature": 1}, {"column": "a"}):
        assert judge_digest({**judge, **change}) != plain
    with pytest.raises(ValueError, match="url"):
        judge_digest({"type": "pairwise-judge", "model": "m"})
