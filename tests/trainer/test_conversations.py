"""Rows that hold whole conversations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trainer.conversations import is_chat, unfolded
from trainer.rows import rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from pathlib import Path

ASK = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}


def test_messages_give_a_prompt_and_the_last_answer() -> None:
    row = unfolded({"messages": [ASK, FIVE, ASK, FOUR]})
    assert row["prompt"] == [ASK, FIVE, ASK]
    assert row["completion"] == "4"


def test_a_message_that_holds_more_than_text_stays_a_message() -> None:
    thought = FOUR | {"reasoning_content": "two and two", "tool_calls": None}
    shown = {key: value for key, value in thought.items() if value is not None}
    row = unfolded({"messages": [ASK, thought]})
    assert (row["prompt"], row["completion"]) == ([ASK], [shown])
    row = unfolded({"chosen": [ASK, thought], "rejected": [ASK, FIVE]})
    assert (row["chosen"], row["rejected"]) == ([shown], "5")
    assert unfolded({"messages": [ASK, FOUR | {"tool_calls": None}]})["completion"] == "4"
    assert unfolded({"prompt": [ASK], "completion": [ASK]})["completion"] == [ASK]


def test_messages_that_end_with_the_user_are_a_prompt() -> None:
    row = unfolded({"messages": [ASK]})
    assert row["prompt"] == [ASK] and "completion" not in row


def test_pairs_give_their_common_beginning_as_the_prompt() -> None:
    row = unfolded({"prompt": "2 + 2?", "chosen": [ASK, FOUR], "rejected": [ASK, FIVE]})
    assert (row["prompt"], row["chosen"], row["rejected"]) == ([ASK], "4", "5")


def test_equal_answers_keep_their_last_message() -> None:
    row = unfolded({"chosen": [ASK, FOUR], "rejected": [ASK, FOUR]})
    assert (row["prompt"], row["chosen"], row["rejected"]) == ([ASK], "4", "4")


def test_answers_alone_stay_behind_their_own_prompt() -> None:
    row = unfolded({"prompt": [ASK], "chosen": [FOUR], "rejected": [FIVE]})
    assert row == {"prompt": [ASK], "chosen": "4", "rejected": "5"}


def test_pairs_without_anything_in_common_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no prompt"):
        unfolded({"chosen": [FOUR], "rejected": [FIVE]})


@pytest.mark.parametrize("row", [{"prompt": "x", "completion": "y"}, {"messages": "x"}, {}])
def test_other_rows_are_left_alone(row: dict[str, str]) -> None:
    assert unfolded(row) == row


def test_what_is_a_conversation() -> None:
    assert is_chat([ASK])
    assert not any(map(is_chat, ["text", [], [1], [{"role": "user"}], None]))


def test_a_file_of_conversations_loads_as_demonstrations_and_as_pairs(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps({"messages": [ASK, FOUR], "chosen": [ASK, FOUR], "rejected": [ASK, FIVE]})
    )
    source = DataSource(source=str(path))
    pair = rows_load(source, seed=0, wanted=frozenset({"prompt", "chosen", "rejected"})).rows[0]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ([ASK], "4", "5")
    path.write_text(json.dumps({"messages": [ASK, FOUR]}))
    row = rows_load(source, seed=0, wanted=frozenset({"prompt", "completion"})).rows[0]
    assert (row["prompt"], row["completion"]) == ([ASK], "4")
    path.write_text(json.dumps({"chosen": [FOUR], "rejected": [FIVE]}))
    with pytest.raises(ValueError, match="row 1: chosen and rejected are conversations"):
        rows_load(source, seed=0, wanted=frozenset({"prompt", "chosen", "rejected"}))
