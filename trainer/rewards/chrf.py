"""chrF: runs of characters shared with a reference (Popović 2015, aclanthology.org/W15-3049), by sacrebleu."""

from functools import cache
from typing import Any, Literal

from pydantic import Field

from trainer.registry import Answer, Reward
from trainer.rewards._references import references


class Chrf(Reward):
    """chrF of each answer alone, from 0 to 1: a hundredth of what sacrebleu prints."""

    type: Literal["chrf"] = "chrf"

    column: str = Field("answer", json_schema_extra={"basic": True})
    """The column with the reference answer, or with a list of them: the best one counts."""
    longest: int = Field(6, ge=1, le=10)
    """Longest run of characters that is counted. Healthy: 6. Source: Popović 2015 (sacrebleu: char_order)."""
    longest_words: int = Field(0, ge=0, le=4)
    """Longest run of words that is counted besides; 2 makes it chrF++. Healthy: 0 or 2. Source: Popović 2017,
    aclanthology.org/W17-4770 (sacrebleu: word_order)."""
    beta: int = Field(2, ge=1, le=5)
    """How much more it counts that the reference's runs are there than that no others are. Healthy: 2.
    Source: Popović 2015."""
    lowercase: bool = False
    """Compare without regard to upper and lower case."""

    def prepare(self) -> None:
        """Load sacrebleu. Raises ValueError where it is not installed."""
        _metric(self.longest, self.longest_words, self.beta, self.lowercase)

    def score(self, answer: Answer) -> float:
        """Sentence chrF. Raises Unscorable without a reference."""
        metric = _metric(self.longest, self.longest_words, self.beta, self.lowercase)
        wanted = references(answer.row, self.column)
        return float(metric.sentence_score(answer.text, wanted).score) / 100


@cache
def _metric(longest: int, longest_words: int, beta: int, lowercase: bool) -> Any:
    try:
        from sacrebleu.metrics import CHRF
    except ImportError as error:
        raise ValueError("rewards: chrf needs sacrebleu; install it on this node") from error
    return CHRF(char_order=longest, word_order=longest_words, beta=beta, lowercase=lowercase)
