"""The source `harness`: the shipped tasks, for evaluation only."""

from itertools import islice

import pytest

from trainer.data.harness import Harness
from trainer.harness import CHOICES

pytestmark = pytest.mark.filterwarnings("default")


def test_the_shipped_tasks_have_rows():
    (text,) = islice(Harness(type="harness").rows("test", 0), 1)
    assert text["prompt"].startswith("sort ") and text["prompt"].endswith(" = ")
    assert sorted(text["prompt"].split()[1]) == list(text["answer"])
    (choice,) = islice(Harness(type="harness", task="sort_digits_choice").rows("test", 0), 1)
    assert len(choice[CHOICES]) == 4 and " " + choice["answer"] in choice[CHOICES]


def test_nothing_is_trained_on_a_task():
    with pytest.raises(ValueError, match='set split to "test"'):
        Harness(type="harness").rows("train", 0)
