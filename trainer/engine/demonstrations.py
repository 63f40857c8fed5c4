"""Learning from demonstrations: answers to imitate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.engine.batches import Demonstrations
from trainer.engine.forward import micro_batches, token_scores
from trainer.engine.offline import Offline, fitted, mask_of, sequences_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.engine.dataset import Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.state import State
    from trainer.methods import Loss, Objective


class DemonstrationLearner(Offline):
    """Imitates answers."""

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches."""
        return demonstration_losses(
            self.policy,
            self.spec.objective,
            self.examples,
            self.spec.batch.tokens_per_microbatch,
            means,
            self.session.tick,
        )


def demonstration_losses(
    policy: Policy,
    objective: Objective,
    examples: Sequence[Example],
    budget: int,
    means: Means,
    tick: Callable[[], None],
) -> Iterator[Loss]:
    """The losses of demonstrations, by micro-batches; used for training and, without gradient, for eval."""
    sequences = sequences_of(examples)
    width = max(len(answer) for answer in sequences.answers)
    whole = Demonstrations(mask_BT=mask_of(sequences.answers, width).to(policy.device))
    weight_NT = objective.token_weights(whole)
    wanted = range(len(sequences.answers))
    for rows in micro_batches(sequences, wanted, budget=budget, shared=policy.shared_prefix):
        tick()
        chosen = [answer for row in rows for answer in row.answers]
        scores = token_scores(policy, sequences, chosen, rows=rows)
        logp, entropy, correct = (fitted(values, width) for values in scores.padded())
        batch = Demonstrations(
            mask_BT=whole.mask_BT[chosen],
            weight_BT=None if weight_NT is None else weight_NT[chosen],
            logp_BT=logp,
            entropy_BT=entropy,
            correct_BT=correct,
        )
        loss = objective.loss(batch)
        means.add("entropy", float(entropy.sum()), float(batch.mask_BT.sum()))
        yield loss
