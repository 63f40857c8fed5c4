"""`harness-task`: texts are cut where the task says, choices are compared, and what cannot be scored says why."""

from dataclasses import replace
from itertools import islice

import pytest

from trainer.data.harness import Harness
from trainer.registry import Answer, Unscorable
from trainer.rewards.harness_task import HarnessTask

pytestmark = pytest.mark.filterwarnings("default")


def first(task: str) -> Answer:
    (row,) = islice(Harness(type="harness", task=task).rows("test", 0), 1)
    return Answer(row["prompt"], row["answer"], 6, "stop", row)


def test_a_text_is_cut_at_the_tasks_stop():
    scorer, answer = HarnessTask(type="harness-task"), first("sort_digits")
    assert scorer.score(answer) == 1
    assert scorer.score(replace(answer, text=answer.text + "\nand more")) == 1
    assert scorer.score(replace(answer, text=answer.text + " and more")) == 0


def test_an_answer_of_another_length_than_the_tasks_is_no_score():
    scorer, answer = HarnessTask(type="harness-task"), first("sort_digits")
    for other in (replace(answer, tokens=9), replace(answer, tokens=5, finish_reason="length")):
        with pytest.raises(Unscorable, match="set max_new_tokens"):
            scorer.score(other)


def test_the_likeliest_choice_counts_whatever_was_written():
    scorer, answer = HarnessTask(type="harness-task", metric="acc"), first("sort_digits_choice")
    gold = answer.row["harness"]["doc"]["label"]
    for place in range(4):
        likely = [(-1.0 if one == place else -9.0, False) for one in range(4)]
        assert scorer.score(replace(answer, text="", choices=likely)) == float(place == gold)
    with pytest.raises(Unscorable, match="cannot read the choices"):
        scorer.score(answer)


def test_an_unknown_metric_and_a_foreign_row_say_so():
    answer = replace(first("sort_digits_choice"), choices=[(-1.0, False)] * 4)
    with pytest.raises(Unscorable, match="metric: the task measures acc, acc_norm, not f1"):
        HarnessTask(type="harness-task", metric="f1").score(answer)
    with pytest.raises(Unscorable, match="no document of a harness task"):
        HarnessTask(type="harness-task").score(Answer("p", "t", 1, "stop", {"prompt": "p"}))
