"""Learning from demonstrations: answers to imitate.

Legend: N answers of the optimizer batch, B of the micro-batch, T answer tokens (as many for all of them).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.batches import Demonstrations
from trainer.engine.forward import token_scores
from trainer.engine.noise import Noise
from trainer.engine.offline import Offline, fitted, sequences_of
from trainer.engine.packing import micro_batches, padding
from trainer.engine.ranks import ALONE
from trainer.engine.sharding import idle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.engine.dataset import Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks
    from trainer.engine.state import State
    from trainer.methods import Loss, Objective
    from trainer.spec import Batch


class DemonstrationLearner(Offline):
    """Imitates answers."""

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches."""
        spec = self.spec
        noise = Noise.of_step(
            spec.objective.embedding_noise, spec.seed, state.step + 1, range(len(self.examples))
        )
        return demonstration_losses(
            self.policy,
            spec.objective,
            self.examples,
            spec.batch,
            means,
            self.session.tick,
            noise=noise,
            ranks=self.session.ranks,
        )


def demonstration_losses(
    policy: Policy,
    objective: Objective,
    examples: Sequence[Example],
    how: Batch,
    means: Means,
    tick: Callable[[], None],
    *,
    noise: Noise | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Loss]:
    """The losses of demonstrations, by micro-batches; used for training and, without gradient, for eval.

    `ranks` share the examples; weights are those of all of them.
    """
    sequences = sequences_of(examples)
    width = max(len(answer) for answer in sequences.answers)
    whole = Demonstrations(mask_BT=trained_mask(examples, width).to(policy.device))
    weight_NT = objective.token_weights(whole)
    plan = micro_batches(
        sequences,
        ranks.deal([len(example.prompt) + len(example.answers[0]) for example in examples]),
        budget=how.tokens_per_microbatch,
        shared=policy.shared_prefix,
        packed=how.packing == "rows",
    )
    rounds = ranks.most(len(plan)) if ranks.sharded else 0
    for rows in plan:
        tick()
        chosen = [answer for row in rows for answer in row.answers]
        scores = token_scores(policy, sequences, chosen, rows=rows, noise=noise)
        logp_BT, entropy_BT, correct_BT = (fitted(values, width) for values in scores.padded())
        batch = Demonstrations(
            mask_BT=whole.mask_BT[chosen],
            weight_BT=None if weight_NT is None else weight_NT[chosen],
            logp_BT=logp_BT,
            entropy_BT=entropy_BT,
            correct_BT=correct_BT,
        )
        loss = objective.loss(batch)
        means.add("entropy", float(entropy_BT.sum()), float(batch.mask_BT.sum()))
        means.add("batch/pad_frac", *padding(rows))
        yield loss
    yield from idle(policy, rounds - len(plan))


def trained_mask(examples: Sequence[Example], width: int) -> torch.Tensor:
    """Which of `width` cells of each answer hold tokens that are trained on, (N, T) bool."""
    mask_NT = torch.zeros(len(examples), width, dtype=torch.bool)
    for row, example in enumerate(examples):
        (answer,) = example.answers
        mask_NT[row, : len(answer)] = (
            True if example.trained is None else torch.tensor(example.trained)
        )
    return mask_NT
