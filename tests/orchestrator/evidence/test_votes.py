"""Votes: sides come off, styles are counted, nonsense is refused."""

from __future__ import annotations

import pytest

from orchestrator.evidence import Style, Vote, style


def test_an_outcome_without_its_side_is_the_arm() -> None:
    assert Vote("j", "p", "b", "a", "left").choice == "b"
    assert Vote("j", "p", "b", "a", "right").choice == "a"
    assert Vote("j", "p", "b", "a", "tie").choice == "tie"
    assert Vote("j", "p", "b", "a", "both bad").choice == "both bad"


def test_labels_are_the_same_whichever_way_round() -> None:
    assert (
        Vote("j", "p", "b", "a", "left").label
        == Vote("j", "p", "a", "b", "right").label
        == "second"
    )
    assert Vote("j", "p", "b", "a", "right").label == "first"
    assert Vote("j", "p", "b", "a", "tie").label == "tie"


def test_an_arm_may_be_called_tie() -> None:
    assert Vote("j", "p", "tie", "a", "tie").label == "tie"
    assert Vote("j", "p", "tie", "a", "left").label == "second"


def test_the_same_two_arms_on_a_prompt_are_one_item_unless_it_is_named() -> None:
    assert Vote("j", "p", "b", "a", "left").about == Vote("k", "p", "a", "b", "tie").about
    assert Vote("j", "p", "b", "a", "left").about != Vote("k", "q", "a", "b", "tie").about
    assert Vote("j", "p", "b", "a", "left", item="7").about == "7"


def test_style_is_counted_outside_of_code() -> None:
    answer = "\n".join(
        [
            "# Title",
            "Some **bold** and __more__ text, 2 * 3 * 4.",
            "- one",
            "  * two",
            "3. three",
            "```python",
            "# no header",
            "- no item **not bold**",
            "```",
            "## End",
            "#hashtag",
        ]
    )
    assert style(answer) == Style(length=len(answer), headers=2, lists=3, bold=2)
    assert style("") == Style()


def test_nonsense_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="outcome: 'A' is none of left, right, tie, both bad"):
        Vote("j", "p", "a", "b", "A")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gold: 'a'"):
        Vote("j", "p", "a", "b", "left", gold="a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on both sides"):
        Vote("j", "p", "a", "a", "left")
