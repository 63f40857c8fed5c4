"""Learning from answers that somebody called good or bad, one by one.

Legend: N answers of the optimizer batch, B of the micro-batch, T answer tokens (as many for all of them), M
scored tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.batches import Labelled
from trainer.engine.coupled import Part, losses_of
from trainer.engine.forward import token_scores
from trainer.engine.offline import Offline, fitted, mask_of, sequences_of
from trainer.engine.packing import Sequences, micro_batches
from trainer.engine.ranks import ALONE
from trainer.engine.reference_scores import ReferenceScores
from trainer.engine.sharding import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.packing import Row
    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks
    from trainer.engine.reference import Reference
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss
    from trainer.spec import RunSpec


class LabelLearner(Offline):
    """Learns good answers and unlearns bad ones. Reference scores are computed once and kept."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        super().__init__(session, spec, policy, reference, cursor)
        self.known = ReferenceScores(reference.memory())

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches."""
        return label_losses(self, self.examples, self.known, self.session.ranks)

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """The reference scores: recomputed in another batch they would differ in the last bit."""
        return self.known.tensors()

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the reference scores."""
        self.known.restore(tensors)


def label_losses(
    learner: LabelLearner,
    examples: Sequence[Example],
    known: ReferenceScores,
    ranks: Ranks = ALONE,
) -> Iterator[Loss]:
    """The losses of labelled answers, by micro-batches; `ranks` share the answers."""
    divided = DividedLabels(learner, examples, known, ranks)
    return losses_of(learner.spec.objective, divided, ranks)


class DividedLabels:
    """The labelled answers of an optimizer batch."""

    with_gradient: Sequence[str] = ("logp_BT",)
    parts: Sequence[Part]

    def __init__(
        self,
        learner: LabelLearner,
        examples: Sequence[Example],
        known: ReferenceScores,
        ranks: Ranks = ALONE,
    ) -> None:
        self.learner, self.examples, self.known, self.ranks = learner, examples, known, ranks
        self.policy = policy = learner.policy
        objective = learner.spec.objective
        self.size = len(examples)
        self.sequences = sequences_of(examples)
        self.width = max(len(answer) for answer in self.sequences.answers)
        self.mine = ranks.deal([len(e.prompt) + len(e.answers[0]) for e in examples])
        mask_NT = mask_of(self.sequences.answers, self.width).to(policy.device)
        good_N = torch.tensor([bool(e.row["label"]) for e in examples], device=policy.device)
        self.whole = Labelled(
            mask_NT,
            good_N,
            torch.full((self.size,), 1 / self.size, device=policy.device),
            score_weight_BT=objective.score_weights(mask_NT, mask_NT),
            good_N=float(good_N.sum()),
            bad_N=float((~good_N).sum()),
            dials=learner.dials,
        )
        if "mismatched" in objective.uses and self.size > 1:
            with learner.session.clock.part("logprob"):
                self._score_mismatched()
        self.parts = [
            Part(sorted(answer for row in rows for answer in row.answers), rows)
            for rows in self._plan(self.sequences)
        ]
        if "reference" in objective.uses and not ranks.alone and known.lack(examples):
            # Known to all ranks, whichever of them has the answer next time.
            for part in self.parts:
                self._score_reference(part)
            known.share(ranks, [examples[answer] for answer in self.mine])

    def batch(self, members: Sequence[int]) -> Labelled:
        """The batch of some answers, without the policy's log-probabilities."""
        whole, index = self.whole, list(members)
        assert whole.score_weight_BT is not None
        batch = Labelled(
            whole.mask_BT[index],
            whole.good_B[index],
            whole.weight_B[index],
            score_weight_BT=whole.score_weight_BT[index],
            good_N=whole.good_N,
            bad_N=whole.bad_N,
            other_score_N=whole.other_score_N,
            ref_other_score_N=whole.ref_other_score_N,
            dials=whole.dials,
        )
        if "reference" in self.learner.spec.objective.uses:
            examples = [self.examples[answer] for answer in index]
            batch.ref_score_B = self.known.of(examples, self.learner.policy.device)[:, 0]
        return batch

    def forward(self, part: Part) -> dict[str, torch.Tensor]:
        """The policy's log-probabilities."""
        learner = self.learner
        learner.session.tick()
        if "reference" in learner.spec.objective.uses:
            self._score_reference(part)
        scores = token_scores(learner.policy, self.sequences, part.members, rows=part.rows)
        return {"logp_BT": fitted(scores.scattered(scores.logp_M), self.width)}

    def _score_reference(self, part: Part) -> None:
        examples = [self.examples[answer] for answer in part.members]
        if not self.known.lack(examples):
            return
        with self.learner.session.clock.part("logprob"):
            logp_BT = self.learner.reference.token_logps(
                self.sequences, part.members, part.rows, 1.0
            )
            assert self.whole.score_weight_BT is not None
            weight_BT = self.whole.score_weight_BT[part.members]
            score_B = (weight_BT * fitted(logp_BT, self.width)).sum(-1)
            self.known.add(examples, score_B[:, None])

    def _score_mismatched(self) -> None:
        """Each prompt with the answer of the row before, under policy and reference, without gradient.

        Once per optimizer batch, so that micro-batches do not change the estimate; never kept, for the
        rows beside a row change from epoch to epoch.
        """
        learner, count = self.learner, self.size
        answers = [self.sequences.answers[index - 1] for index in range(count)]
        others = Sequences(self.sequences.prompts, answers, list(range(count)))
        mask_NT = mask_of(answers, self.width).to(learner.policy.device)
        weight_NT = learner.spec.objective.score_weights(mask_NT, mask_NT)
        score_N, ref_score_N = weight_NT.new_zeros(count), weight_NT.new_zeros(count)
        with torch.no_grad(), whole(learner.policy, self.ranks):
            for rows in self._plan(others):
                learner.session.tick()
                members = sorted(answer for row in rows for answer in row.answers)
                scores = token_scores(learner.policy, others, members, rows=rows)
                logp_BT = fitted(scores.scattered(scores.logp_M), self.width)
                ref_BT = learner.reference.token_logps(others, members, rows, 1.0)
                score_N[members] = (weight_NT[members] * logp_BT).sum(-1)
                ref_score_N[members] = (weight_NT[members] * fitted(ref_BT, self.width)).sum(-1)
        for values_N in (score_N, ref_score_N):
            self.ranks.add(values_N)
        self.whole.other_score_N, self.whole.ref_other_score_N = score_N, ref_score_N

    def _plan(self, sequences: Sequences) -> list[list[Row]]:
        batch = self.learner.spec.batch
        return micro_batches(
            sequences,
            self.mine,
            budget=batch.tokens_per_microbatch,
            shared=self.learner.policy.shared_prefix,
            packed=batch.packing == "rows",
        )
