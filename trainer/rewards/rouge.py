"""ROUGE: words shared with a reference (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries")."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from trainer.registry import Answer, Reward
from trainer.rewards._references import common_grams, common_subsequence, references

WORDS = {"ascii": re.compile(r"[a-z0-9]+"), "unicode": re.compile(r"\w+")}


class Rouge(Reward):
    """Share of words, word pairs or words in order that answer and reference have in common, from 0 to 1."""

    type: Literal["rouge"] = "rouge"

    column: str = Field("answer", json_schema_extra={"basic": True})
    """The column with the reference answer, or with a list of them: the best one counts."""
    variant: Literal["rouge-1", "rouge-2", "rouge-l"] = Field(
        "rouge-l", json_schema_extra={"basic": True}
    )
    """`rouge-1` counts words, `rouge-2` pairs of neighbours, each as often as both texts have it; `rouge-l` takes
    the longest sequence of words that both have in this order, over the whole text. Source: Lin 2004."""
    measure: Literal["f1", "precision", "recall"] = "f1"
    """Of what it is the share: of the answer's (precision), of the reference's (recall), or the harmonic mean of
    both."""
    words: Literal["ascii", "unicode"] = "ascii"
    """What a word is: letters a to z and digits of the text in lower case, as in the published scores, or
    letters and digits of any script. No stemming. Healthy: ascii for English."""

    def score(self, answer: Answer) -> float:
        """From 0 to 1; the best over the references. Raises Unscorable without one."""
        said = self._words(answer.text)
        return max(
            self._share(said, self._words(reference))
            for reference in references(answer.row, self.column)
        )

    def _words(self, text: str) -> Sequence[str]:
        return WORDS[self.words].findall(text.lower())

    def _share(self, said: Sequence[str], wanted: Sequence[str]) -> float:
        if self.variant == "rouge-l":
            shared, ours, theirs = common_subsequence(said, wanted), len(said), len(wanted)
        else:
            size = 1 if self.variant == "rouge-1" else 2
            shared, ours, theirs = common_grams(said, wanted, size)
        precision, recall = shared / max(ours, 1), shared / max(theirs, 1)
        if self.measure == "precision":
            return precision
        if self.measure == "recall":
            return recall
        return 2 * precision * recall / (precision + recall) if shared else 0.0
