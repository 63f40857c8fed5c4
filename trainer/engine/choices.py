"""How likely the model finds each of the texts that a row lets it choose from, encoded as the harness does.

Legend: B choices of a micro-batch, A their tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.readings import room
from trainer.harness import CHOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.dataset import Example
    from trainer.engine.policy import Policy


def choices_weighed(
    policy: Policy, examples: Sequence[Example], *, tick: Callable[[], None], budget: int
) -> list[list[tuple[float, bool]]]:
    """For each example the log-likelihood of each choice, and whether its tokens are the likeliest ones.

    Nothing for a row without choices, and where one of them has no token or does not fit the model.
    """
    sequences = Sequences([], [], [])
    asked: list[int] = []
    for number, example in enumerate(examples):
        texts = example.row.get(CHOICES)
        if not isinstance(texts, list) or not isinstance(example.row["prompt"], str):
            continue
        whole = policy.tokenizer([example.row["prompt"] + str(text) for text in texts])["input_ids"]
        start = len(policy.tokenizer(example.row["prompt"])["input_ids"])
        if all(start < len(ids) <= room(policy) for ids in whole):
            for ids in whole:
                # A token that reaches across the border may change the prompt's last one: each has its own.
                sequences.prompts.append(list(ids[:start]))
                sequences.answers.append(list(ids[start:]))
                sequences.prompt_of.append(len(asked))
                asked.append(number)
    found: list[list[tuple[float, bool]]] = [[] for _ in examples]
    with torch.no_grad():
        for rows in micro_batches(
            sequences, range(len(asked)), budget=budget, shared=policy.shared_prefix, packed=True
        ):
            tick()
            chosen = [answer for row in rows for answer in row.answers]
            scores = token_scores(policy, sequences, chosen, rows=rows)
            logp_BA, _, correct_BA = scores.padded()
            for place, answer in enumerate(chosen):
                length = len(sequences.answers[answer])
                value = float(logp_BA[place, :length].double().sum())
                greedy = bool(correct_BA[place, :length].bool().all())
                found[asked[answer]].append((answer, value, greedy))  # type: ignore[arg-type]
    return [[pair[1:] for pair in sorted(some)] for some in found]  # type: ignore[misc]
