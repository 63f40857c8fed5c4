"""A rank without a voice has every word of the one that speaks, and none of them says anything."""

from __future__ import annotations

from trainer.engine.mute import Mute
from trainer.engine.progress import Report


def test_it_has_a_word_for_each_of_the_one_that_speaks():
    words = {name for name, word in vars(Report).items() if callable(word) and name[0] != "_"}
    assert len(words) > 8
    assert sorted(words - vars(Mute).keys()) == []
