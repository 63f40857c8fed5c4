"""What log-likelihood and perplexity share: the policy's reading of the row's reference answer."""

from collections.abc import Sequence

from trainer.registry import Answer, Unscorable


def reference_logps(answer: Answer, column: str, end_token: bool) -> Sequence[float]:
    """Log-probabilities of the reference's tokens behind the prompt. Raises Unscorable without any."""
    if answer.row.get(column) is None:
        raise Unscorable(f"the row has no reference in '{column}'")
    if column not in answer.read:
        raise Unscorable(f"the model cannot read '{column}': it is no text, or too long")
    logps = answer.read[column]
    logps = logps if end_token else logps[:-1]
    if not logps:
        raise Unscorable(f"'{column}' has no tokens")
    return logps
