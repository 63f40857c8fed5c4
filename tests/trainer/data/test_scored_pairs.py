"""The scored-pairs transform."""

from __future__ import annotations

import pytest

from trainer.data.scored_pairs import ScoredPairs


def graded(solution: str, is_correct: bool) -> dict[str, object]:
    return {"solution": solution, "is_correct": is_correct}


def test_every_right_answer_meets_every_wrong_one() -> None:
    row = {
        "question": "q",
        "a": graded("1", True),
        "b": graded("2", False),
        "c": graded("3", True),
        "d": graded("4", False),
        "note": "kept out",
    }
    assert ScoredPairs().apply([row]) == [
        {"prompt": "q", "chosen": chosen, "rejected": rejected}
        for chosen in ("1", "3")
        for rejected in ("2", "4")
    ]
    assert len(ScoredPairs(most_per_prompt=3).apply([row])) == 3


def test_a_problem_that_all_got_right_gives_no_pair() -> None:
    assert ScoredPairs().apply([{"question": "q", "a": graded("1", True)}]) == []


def test_rows_without_the_column_or_without_grades_are_named() -> None:
    with pytest.raises(ValueError, match="no column 'question'; the row has ask"):
        ScoredPairs().apply([{"ask": "q"}])
    with pytest.raises(ValueError, match="no column holds objects with 'solution'"):
        ScoredPairs().apply([{"question": "q", "a": "1"}])
