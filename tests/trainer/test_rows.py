"""From a data source to rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from trainer.rows import BUILT_IN_ROWS, is_test, rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = frozenset({"prompt"})
DEMONSTRATION = frozenset({"prompt", "completion"})
PAIR = frozenset({"prompt", "chosen", "rejected"})


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load(wanted: frozenset[str] = PROMPT, **source: Any) -> list[dict[str, Any]]:
    return rows_load(DataSource(**source), seed=0, wanted=wanted).rows


def fault(wanted: frozenset[str] = PROMPT, **source: Any) -> str:
    with pytest.raises(ValueError, match=r"(?s).") as caught:
        load(wanted, **source)
    return str(caught.value)


def test_a_built_in_source_gives_its_limit_or_ten_thousand_rows() -> None:
    assert len(load(source="noisy-sort", limit=7)) == 7
    assert len(load(source="arithmetic")) == BUILT_IN_ROWS


def test_a_built_in_source_is_a_pure_function_of_its_seed() -> None:
    source = DataSource(source="arithmetic", limit=50)
    assert rows_load(source, seed=1, wanted=PROMPT) == rows_load(source, seed=1, wanted=PROMPT)
    assert rows_load(source, seed=1, wanted=PROMPT) != rows_load(source, seed=2, wanted=PROMPT)


@pytest.mark.parametrize("source", ["arithmetic", "noisy-sort", "countdown-lite"])
def test_no_prompt_of_a_built_in_source_is_on_both_sides(source: str) -> None:
    train = {row["prompt"] for row in load(source=source, split="train")}
    test = {row["prompt"] for row in load(source=source, split="test", limit=1000)}
    assert train and test
    assert not train & test


def test_a_built_in_source_too_small_to_divide_says_so() -> None:
    assert "too few different prompts for a test split" in fault(
        source="arithmetic", options={"largest": 1}, split="test"
    )


def test_the_split_of_a_built_in_source_is_train_or_test() -> None:
    assert 'split is "train" or "test", not "dev"' in fault(source="arithmetic", split="dev")


def test_columns_are_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"ask": "x", "prompt": "old", "n": 1}])
    assert load(source=path, columns={"ask": "prompt"}) == [{"prompt": "x", "n": 1}]


def test_a_mapping_of_a_column_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"ask": "x", "n": 1}])
    message = fault(source=path, columns={"q": "prompt"})
    assert "columns renames 'q', but the columns are ask, n" in message


def test_a_missing_column_is_named_with_a_mapping_that_would_help(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"ask me": "x", "completion": "y"}])
    message = fault(DEMONSTRATION, source=path)
    assert f"{path}: no column 'prompt'; the columns are ask me, completion" in message
    assert 'columns = { "ask me" = "prompt" }' in message


def test_gsm8k_rows_work_as_they_are(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "Two.\n#### 2"}
    path = write(tmp_path / "a.jsonl", [row])
    assert load(DEMONSTRATION, source=path) == [
        {**row, "prompt": "How many?", "completion": "Two.\n#### 2"}
    ]
    assert load(source=path) == [{**row, "prompt": "How many?"}]


def test_a_prompt_is_never_taken_from_a_question_when_there_is_a_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "q", "prompt": "p"}])
    assert load(source=path)[0]["prompt"] == "p"


def test_a_split_puts_no_value_on_both_sides_and_loses_no_row(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{number}", "group": number % 100} for number in range(400)]
    path = write(tmp_path / "a.jsonl", rows)
    knobs = {"source": path, "split_by": "group", "holdout": 0.3, "split_seed": 5}
    train, test = load(**knobs), load(**knobs, split="test")
    assert {row["group"] for row in train}.isdisjoint(row["group"] for row in test)
    assert len(train) + len(test) == 400
    assert 60 < len(test) < 180
    other = load(**{**knobs, "split_seed": 6}, split="test")
    assert {row["group"] for row in other} != {row["group"] for row in test}


def test_the_share_held_out_is_the_share_asked_for() -> None:
    share = sum(is_test(str(number), holdout=0.2, seed=3) for number in range(20_000)) / 20_000
    assert abs(share - 0.2) < 0.01


def test_a_split_by_a_column_that_is_not_there_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "x"}])
    assert "split_by names 'who'" in fault(source=path, split_by="who", holdout=0.2)


def test_a_transform_comes_after_the_split_and_before_the_limit(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"q{number}",
            "ours": {"is_correct": True, "solution": f"right {number}"},
            "theirs": {"is_correct": False, "solution": f"wrong {number}"},
        }
        for number in range(40)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    knobs = {"source": path, "transform": {"type": "scored-pairs"}}
    assert len(load(PAIR, **knobs, limit=3)) == 3
    split = {"split_by": "question", "holdout": 0.5}
    train, test = load(PAIR, **knobs, **split), load(PAIR, **knobs, **split, split="test")
    assert len(train) + len(test) == 40
    assert {row["prompt"] for row in train}.isdisjoint(row["prompt"] for row in test)


def test_empty_cells_and_equal_pairs_are_dropped_and_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        [
            {"prompt": "x", "chosen": "a", "rejected": "b"},
            {"prompt": "x", "chosen": "a", "rejected": "a"},
            {"prompt": "", "chosen": "a", "rejected": "b"},
            {"prompt": "x", "chosen": "a"},
        ],
    )
    loaded = rows_load(DataSource(source=path), seed=0, wanted=PAIR)
    assert len(loaded.rows) == 1
    assert loaded.dropped == {
        "chosen equals rejected": 1,
        "prompt is empty": 1,
        "rejected is empty": 1,
    }
    path = write(tmp_path / "b.jsonl", [{"prompt": "x", "chosen": "a", "rejected": "a"}])
    assert "no row can be used: chosen equals rejected (1)" in fault(PAIR, source=path)


@pytest.mark.parametrize(
    ("value", "kind"), [(5, "a number"), ({"a": 1}, "an object"), ([1], "a list that is not chat")]
)
def test_a_prompt_of_the_wrong_type_is_named(tmp_path: Path, value: Any, kind: str) -> None:
    path = write(tmp_path / "a.jsonl", [{"prompt": "x"}, {"prompt": value}])
    assert f"row 2: 'prompt' is {kind}" in fault(source=path)


def test_a_prompt_may_be_chat_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hello"}]
    path = write(tmp_path / "a.jsonl", [{"prompt": messages}])
    assert load(source=path) == [{"prompt": messages}]


def test_a_variable_in_a_path_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "x"}])
    monkeypatch.setenv("ANNEAL_ROWS_DIR", str(tmp_path))
    assert load(source="${ANNEAL_ROWS_DIR}/a.jsonl") == [{"prompt": "x"}]


def test_an_unset_variable_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANNEAL_GSM8K_DIR", raising=False)
    message = fault(source="${ANNEAL_GSM8K_DIR}/gsm8k_train.jsonl")
    assert "ANNEAL_GSM8K_DIR is not set; download" in message
    assert "github.com/openai/grade-school-math" in message
    assert "set ANNEAL_SOME_DIR to the folder" in fault(source="${ANNEAL_SOME_DIR}/a.jsonl")


def test_a_secret_of_the_node_is_never_filled_in(monkeypatch):
    monkeypatch.setenv("ANNEAL_SECRET_KEY", "hush")
    for name in ("ANNEAL_SECRET_KEY", "HOME"):
        message = fault(source=f"${{{name}}}/a.jsonl")
        assert "only variables named" in message
        assert "hush" not in message


def test_a_pattern_reads_all_its_files_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [{"prompt": "2"}])
    write(tmp_path / "a.jsonl", [{"prompt": "1"}])
    assert [row["prompt"] for row in load(source=f"{tmp_path}/*.jsonl")] == ["1", "2"]


def test_a_path_is_relative_to_where_the_trainer_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "x"}])
    monkeypatch.chdir(tmp_path)
    assert load(source="a.jsonl") == [{"prompt": "x"}]
    assert "no such file" in fault(source="b.jsonl")


def test_a_dataset_id_is_looked_up_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [{"prompt": "x"}])
    loaded = rows_load(
        DataSource(source="abc123"), seed=0, wanted=PROMPT, datasets={"abc123": path}
    )
    assert (loaded.rows, loaded.origin) == ([{"prompt": "x"}], "dataset abc123")


def test_a_name_that_is_nothing_lists_what_it_could_be() -> None:
    message = fault(source="no-such-thing")
    assert "arithmetic" in message and "a hub id (owner/name)" in message


def test_a_file_without_rows_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n")
    assert "holds no rows" in fault(source=str(path))
