"""Whether a training prompt occurs in an evaluation set: word for word, nearly so, or in large part.

"In large part" goes by runs of 13 words, as in Brown et al. 2020 (GPT-3, appendix C). Runs that many
evaluation prompts share are instructions around the questions; they convict nobody.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

RUN_WORDS = 13
OVERLAP = 0.5
"""Share of a prompt's runs that must occur in the evaluation set."""
COMMON_LEAST, COMMON_SHARE = 2, 0.02
"""A run in more evaluation prompts than this many, and than this share of them, is an instruction."""
_WORD = re.compile(r"\w+")


class EvaluationPrompts:
    """The prompts of evaluation sets, ready to be asked."""

    def __init__(self, prompts: Iterable[str]) -> None:
        kept = list(dict.fromkeys(prompts))
        self.exact = frozenset(kept)
        words = [_words(prompt) for prompt in kept]
        self.plain = frozenset(" ".join(one) for one in words if one)
        runs = Counter(run for one in words for run in _runs(one))
        most = max(COMMON_LEAST, COMMON_SHARE * len(kept))
        self.runs = frozenset(run for run, count in runs.items() if count <= most)
        self.common = frozenset(runs) - self.runs

    def why(self, prompt: str) -> str:
        """ "exact", "normalised" (case, accents' encoding, spaces and punctuation aside), "overlap", or "" where
        the prompt is none of these."""
        if prompt in self.exact:
            return "exact"
        words = _words(prompt)
        if " ".join(words) in self.plain:
            return "normalised"
        own = _runs(words) - self.common
        return "overlap" if own and len(own & self.runs) >= OVERLAP * len(own) else ""


def prompt_text(prompt: Any) -> str:
    """The words of a prompt: text as it is, of chat messages what the user says."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list):
        said = [one for one in prompt if isinstance(one, dict)]
        asked = [one for one in said if one.get("role") == "user"] or said
        return "\n".join(str(one.get("content", "")) for one in asked)
    return str(prompt)


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _runs(words: list[str]) -> set[int]:
    return {hash(tuple(words[at : at + RUN_WORDS])) for at in range(len(words) - RUN_WORDS + 1)}
