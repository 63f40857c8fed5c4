"""Learning from preference pairs: a chosen and a rejected answer of each prompt.

Legend: N pairs of the optimizer batch, B of the micro-batch, T answer tokens (as many for all of them), M
scored tokens, K the two sides of a pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.batches import Pairs
from trainer.engine.coupled import Part, losses_of
from trainer.engine.forward import token_scores
from trainer.engine.offline import Offline, fitted, mask_of, sequences_of
from trainer.engine.packing import micro_batches
from trainer.engine.ranks import ALONE
from trainer.engine.reference_scores import ReferenceScores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks
    from trainer.engine.reference import Reference
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss
    from trainer.spec import RunSpec


class PairLearner(Offline):
    """Prefers one answer over another. Reference scores are computed once per pair and kept."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        super().__init__(session, spec, policy, reference, cursor)
        self.known = ReferenceScores(reference.memory())

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches."""
        return pair_losses(self, self.examples, self.known, self.session.ranks)

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """The reference scores: recomputed in another batch they would differ in the last bit."""
        return self.known.tensors()

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the reference scores."""
        self.known.restore(tensors)


def pair_losses(
    learner: PairLearner,
    examples: Sequence[Example],
    known: ReferenceScores,
    ranks: Ranks = ALONE,
) -> Iterator[Loss]:
    """The losses of pairs, by micro-batches that never divide a pair; `ranks` share the pairs."""
    divided = DividedPairs(learner, examples, known, ranks)
    return losses_of(learner.spec.objective, divided, ranks)


class DividedPairs:
    """The pairs of an optimizer batch. Of pair i, the chosen answer is sequence 2 i, the other 2 i + 1."""

    with_gradient: Sequence[str] = ("chosen_logp_BT", "rejected_logp_BT")
    parts: Sequence[Part]

    def __init__(
        self,
        learner: PairLearner,
        examples: Sequence[Example],
        known: ReferenceScores,
        ranks: Ranks = ALONE,
    ) -> None:
        self.learner, self.examples, self.known = learner, examples, known
        self.policy = policy = learner.policy
        objective = learner.spec.objective
        self.size = len(examples)
        self.sequences = sequences_of(examples)
        self.width = max(len(answer) for answer in self.sequences.answers)
        mask_NT = mask_of(self.sequences.answers, self.width).to(policy.device)
        chosen_NT, rejected_NT = mask_NT[0::2], mask_NT[1::2]
        share_N = torch.full((self.size,), 1 / self.size, device=policy.device)
        self.whole = Pairs(
            chosen_NT,
            rejected_NT,
            share_N,
            chosen_score_weight_BT=objective.score_weights(chosen_NT, rejected_NT),
            rejected_score_weight_BT=objective.score_weights(rejected_NT, chosen_NT),
            dials=learner.dials,
        )
        self.whole.nll_weight_BT = objective.token_weights(self.whole)
        batch = learner.spec.batch
        mine = ranks.deal([len(e.prompt) + sum(map(len, e.answers)) for e in examples])
        plan = micro_batches(
            self.sequences,
            [answer for pair in mine for answer in (2 * pair, 2 * pair + 1)],
            budget=batch.tokens_per_microbatch,
            shared=policy.shared_prefix,
            packed=batch.packing == "rows",
            whole_groups=True,
        )
        of = self.sequences.prompt_of
        self.parts = [
            Part(sorted({of[answer] for row in rows for answer in row.answers}), rows)
            for rows in plan
        ]
        if "reference" in objective.uses and not ranks.alone and known.lack(examples):
            # Known to all ranks, whichever of them has the pair next time.
            for part in self.parts:
                self._score_reference(part)
            known.share(ranks, [examples[pair] for pair in mine])

    def batch(self, members: Sequence[int]) -> Pairs:
        """The batch of some pairs, without the policy's log-probabilities."""
        whole, index = self.whole, list(members)
        nll_weight_NT = whole.nll_weight_BT
        assert whole.chosen_score_weight_BT is not None
        assert whole.rejected_score_weight_BT is not None
        batch = Pairs(
            whole.chosen_mask_BT[index],
            whole.rejected_mask_BT[index],
            whole.pair_weight_B[index],
            chosen_score_weight_BT=whole.chosen_score_weight_BT[index],
            rejected_score_weight_BT=whole.rejected_score_weight_BT[index],
            nll_weight_BT=None if nll_weight_NT is None else nll_weight_NT[index],
            dials=whole.dials,
        )
        if "reference" in self.learner.spec.objective.uses:
            examples = [self.examples[pair] for pair in index]
            score_BK = self.known.of(examples, self.learner.policy.device)
            batch.ref_chosen_score_B, batch.ref_rejected_score_B = score_BK.unbind(1)
        return batch

    def forward(self, part: Part) -> dict[str, torch.Tensor]:
        """The policy's log-probabilities, and its collision probabilities where they are used."""
        learner = self.learner
        learner.session.tick()
        uses = learner.spec.objective.uses
        if "reference" in uses:
            self._score_reference(part)
        scores = token_scores(learner.policy, self.sequences, self._answers(part), rows=part.rows)
        logp_BT = fitted(scores.scattered(scores.logp_M), self.width)
        fields = {"chosen_logp_BT": logp_BT[0::2], "rejected_logp_BT": logp_BT[1::2]}
        if "collision" in uses:
            collision_BT = fitted(scores.scattered(scores.collision_M), self.width)
            fields["chosen_collision_BT"] = collision_BT[0::2]
            fields["rejected_collision_BT"] = collision_BT[1::2]
        return fields

    def _answers(self, part: Part) -> list[int]:
        return [answer for pair in part.members for answer in (2 * pair, 2 * pair + 1)]

    def _score_reference(self, part: Part) -> None:
        examples = [self.examples[pair] for pair in part.members]
        if not self.known.lack(examples):
            return
        with self.learner.session.clock.part("logprob"):
            logp_BT = fitted(
                self.learner.reference.token_logps(
                    self.sequences, self._answers(part), part.rows, 1.0
                ),
                self.width,
            )
            whole, index = self.whole, part.members
            assert whole.chosen_score_weight_BT is not None
            assert whole.rejected_score_weight_BT is not None
            chosen_B = (whole.chosen_score_weight_BT[index] * logp_BT[0::2]).sum(-1)
            rejected_B = (whole.rejected_score_weight_BT[index] * logp_BT[1::2]).sum(-1)
            self.known.add(examples, torch.stack([chosen_B, rejected_B], dim=1))
