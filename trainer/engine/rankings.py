"""Learning to score answers: reward models from preference pairs or from ratings.

Legend of shape suffixes: B examples of the micro-batch, A their answers (two of each pair), N all examples,
K outputs of the model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.engine.batches import RankedScores, RatedScores
from trainer.engine.forward import micro_batches
from trainer.engine.means import Means
from trainer.engine.offline import Offline, sequences_of
from trainer.engine.scorer import answer_scores, outputs_of
from trainer.ratings import COLUMN, qualities_of, ratings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.engine.dataset import Example, Part
    from trainer.engine.policy import Policy
    from trainer.engine.state import State
    from trainer.methods import Loss, Objective, Row
    from trainer.spec import Batch

REWARD = "reward"
"""Name of the one output of a model that learns from pairs."""
MARGIN = "margin"


def outputs_wanted(objective: Objective, parts: Sequence[Part]) -> tuple[str, ...]:
    """The outputs that the model must have, by name; none where the objective needs no score head.

    Raises ValueError that names the source, and the row, whose ratings or margins do not serve.
    """
    if "score-head" not in objective.uses:
        return ()
    if "margin" in objective.uses:
        for part in parts:
            _margins_check(part)
    if objective.learns_from != "ratings":
        return (REWARD,)
    found = {part.name: qualities_of(part.rows, part.name) for part in parts}
    first, names = next(iter(found.items()))
    for other, others in found.items():
        if others != names:
            raise ValueError(
                f"{other}: rates {', '.join(others)}, but {first} rates {', '.join(names)}; all sources "
                "must rate the same qualities"
            )
    return names


def _margins_check(part: Part) -> None:
    for number, row in enumerate(part.rows, start=1):
        value = row.get(MARGIN)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
        if not good or value == math.inf:
            has = "has none" if value is None else f"has {value!r:.40}"
            raise ValueError(
                f"{part.name}: row {number}: objective.margin needs a column '{MARGIN}' that says how much "
                f"better the chosen answer is, a number of 0 or more; this row {has}. Add it, or set "
                'objective.margin = "none"'
            )


class RankingLearner(Offline):
    """Teaches a reward model; the objective says what the scores of an answer should be like."""

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches."""
        objective = self.spec.objective
        total = _total(objective, self.examples)
        for members, scores_AK in _scored(
            self.policy, self.examples, self.spec.batch, self.session.tick
        ):
            examples = [self.examples[index] for index in members]
            yield _loss(objective, self.policy, examples, scores_AK, total, means)


def ranking_values(
    policy: Policy,
    objective: Objective,
    examples: Sequence[Example],
    batch: Batch,
    tick: Callable[[], None],
) -> dict[str, float]:
    """Loss, pair accuracy and margin, or loss, squared errors and rank correlations, of held-out rows."""
    pieces = list(_scored(policy, examples, batch, tick))
    places = [_answers(members, len(examples[0].answers)) for members, _ in pieces]
    order = torch.tensor([place for piece in places for place in piece])
    scores_AK = torch.cat([scores for _, scores in pieces])[order.argsort()]
    means = Means()
    loss = _loss(objective, policy, examples, scores_AK, _total(objective, examples), means)
    if objective.learns_from == "pairs":
        gap_N = scores_AK[0::2, 0] - scores_AK[1::2, 0]
        wins = float((gap_N > 0).float().mean() + 0.5 * (gap_N == 0).float().mean())
        return {"loss": float(loss.value), "pair_accuracy": wins, "margins": float(gap_N.mean())}
    found = {"loss": float(loss.value), **means.values()}
    rating_NK = _ratings([example.row for example in examples]).numpy()
    correlations = []
    for column, name in enumerate(outputs_of(policy.model)):
        known_N = ~np.isnan(rating_NK[:, column])
        scores_N = scores_AK[:, column].cpu().numpy()
        correlation = spearman(scores_N[known_N], rating_NK[known_N, column])
        if correlation is not None:
            found[f"{COLUMN}s/{name}/spearman"] = correlation
            correlations.append(correlation)
    if correlations:
        found["spearman"] = sum(correlations) / len(correlations)
    return found


def _scored(
    policy: Policy, examples: Sequence[Example], batch: Batch, tick: Callable[[], None]
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """By micro-batches that never divide a pair: the examples' places, and their answers' scores (A, K)."""
    sequences = sequences_of(examples)
    plan = micro_batches(
        sequences,
        range(len(sequences.answers)),
        budget=batch.tokens_per_microbatch,
        shared=policy.shared_prefix,
        packed=batch.packing == "rows",
        whole_groups=True,
    )
    for rows in plan:
        tick()
        members = sorted({sequences.prompt_of[answer] for row in rows for answer in row.answers})
        answers = _answers(members, len(examples[0].answers))
        yield members, answer_scores(policy, sequences, answers, rows=rows)


def _answers(members: Sequence[int], per_example: int) -> list[int]:
    """The places of the answers of some examples."""
    return [per_example * member + i for member in members for i in range(per_example)]


def _total(objective: Objective, examples: Sequence[Example]) -> float:
    """What the loss of these examples is divided by: pairs, or known ratings."""
    if objective.learns_from == "pairs":
        return float(len(examples))
    known_NK = ~_ratings([example.row for example in examples]).isnan()
    return max(1.0, float(known_NK.sum()))


def _loss(
    objective: Objective,
    policy: Policy,
    examples: Sequence[Example],
    scores_AK: torch.Tensor,
    total: float,
    means: Means,
) -> Loss:
    """The loss of some examples out of a batch whose weights are 1 / `total`."""
    device, rows = scores_AK.device, [example.row for example in examples]
    if objective.learns_from == "pairs":
        margin_B = None
        if "margin" in objective.uses:
            margin_B = torch.tensor([float(row[MARGIN]) for row in rows], device=device)
        weight_B = torch.full((len(rows),), 1 / total, device=device)
        chosen_B, rejected_B = scores_AK[0::2, 0], scores_AK[1::2, 0]
        return objective.loss(RankedScores(chosen_B, rejected_B, weight_B, margin_B))
    rating_BK = _ratings(rows).to(device)
    known_BK = ~rating_BK.isnan()
    error_BK = torch.where(known_BK, scores_AK.detach() - rating_BK, 0.0)
    for column, name in enumerate(outputs_of(policy.model)):
        squares, count = float((error_BK[:, column] ** 2).sum()), float(known_BK[:, column].sum())
        means.add(f"{COLUMN}s/{name}/mse", squares, count)
    return objective.loss(RatedScores(scores_AK, rating_BK, known_BK.float() / total))


def _ratings(rows: Sequence[Row]) -> torch.Tensor:
    """The ratings (B, K) of some rows, NaN = not rated."""
    return torch.tensor([list(ratings_of(row[COLUMN]).values()) for row in rows])


def spearman(one_N: np.ndarray, other_N: np.ndarray) -> float | None:
    """Rank correlation, ties at their mean rank; None where one side is all equal (or too short)."""
    if len(one_N) < 2:
        return None
    ranks = np.stack([_ranks(one_N), _ranks(other_N)])
    ranks -= ranks.mean(1, keepdims=True)
    scale = math.sqrt(float((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / scale) if scale > 0 else None


def _ranks(values_N: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
