"""The text that each token of an answer adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.engine.encode import answer_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.policy import Policy


def pieces(policy: Policy, tokens: Sequence[int]) -> list[str]:
    """The text that each token adds; joined they are the answer's text.

    A character of several tokens belongs to the last of them; each token is spelled as it stands behind the one
    before it, because some tokenizers begin every text with a space that nobody wrote.
    """
    found: list[str] = []
    start = shown = 0
    for end in range(1, len(tokens) + 1):
        before, now = (
            answer_text(policy, tokens[start:shown]),
            answer_text(policy, tokens[start:end]),
        )
        if now.endswith("\ufffd") and end < len(tokens):
            found.append("")
            continue
        found.append(now[len(before) :])
        start, shown = shown, end
    return found
