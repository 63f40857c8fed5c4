"""BLEU: runs of words shared with a reference (Papineni et al. 2002, aclanthology.org/P02-1040), by sacrebleu."""

from functools import cache
from typing import Any, Literal

from pydantic import Field

from trainer.registry import Answer, Reward
from trainer.rewards._references import references


class Bleu(Reward):
    """BLEU of each answer alone, from 0 to 1: a hundredth of what sacrebleu prints."""

    type: Literal["bleu"] = "bleu"

    column: str = Field("answer", json_schema_extra={"basic": True})
    """The column with the reference answer, or with a list of them."""
    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    """How sacrebleu finds words: `13a` for languages with spaces, `intl` for more kinds of punctuation, `zh` for
    Chinese, `char` by characters, `none` where spaces part them already."""
    lowercase: bool = False
    """Compare without regard to upper and lower case."""
    longest: int = Field(4, ge=1, le=8)
    """Longest run of words that is counted. Healthy: 4. Source: Papineni et al. 2002 (sacrebleu:
    max_ngram_order)."""
    smoothing: Literal["exp", "floor", "add-k", "none"] = "exp"
    """What stands for a length of which nothing is shared. Answers are short: without it most have 0.
    Source: Chen and Cherry 2014; sacrebleu's default is exp."""

    def prepare(self) -> None:
        """Load sacrebleu. Raises ValueError where it is not installed."""
        _metric(self.tokenize, self.lowercase, self.longest, self.smoothing)

    def score(self, answer: Answer) -> float:
        """Sentence BLEU with the effective order: lengths that the answer is too short for are left out."""
        metric = _metric(self.tokenize, self.lowercase, self.longest, self.smoothing)
        wanted = references(answer.row, self.column)
        return float(metric.sentence_score(answer.text, wanted).score) / 100


@cache
def _metric(tokenize: str, lowercase: bool, longest: int, smoothing: str) -> Any:
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise ValueError("rewards: bleu needs sacrebleu; install it on this node") from error
    return BLEU(
        tokenize=tokenize,
        lowercase=lowercase,
        max_ngram_order=longest,
        smooth_method=smoothing,
        effective_order=True,
    )
