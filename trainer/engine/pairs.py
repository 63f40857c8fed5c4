"""Learning from preference pairs: a chosen and a rejected answer of each prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.batches import Pairs
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.offline import Offline, fitted, mask_of, mask_of_width, sequences_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss
    from trainer.spec import RunSpec


class PairLearner(Offline):
    """Prefers one answer over another. Reference values are computed once per pair and kept."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        super().__init__(session, spec, policy, reference, cursor)
        self.known: dict[str, tuple[float, float]] = {}

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches."""
        return pair_losses(self, self.examples, self.known)

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """The reference values: recomputed in another batch they would differ in the last bit."""
        if not self.known:
            return {}
        names = "\n".join(self.known).encode()
        return {
            "reference_ids": torch.tensor(list(names), dtype=torch.uint8),
            "reference_values": torch.tensor(list(self.known.values()), dtype=torch.float32),
        }

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up the reference values."""
        if not tensors:
            return
        names = bytes(tensors["reference_ids"].tolist()).decode().split("\n")
        values = tensors["reference_values"].tolist()
        self.known = {
            name: (chosen, rejected) for name, (chosen, rejected) in zip(names, values, strict=True)
        }


def pair_losses(
    learner: PairLearner, examples: Sequence[Example], known: dict[str, tuple[float, float]]
) -> Iterator[Loss]:
    """The losses of pairs, by micro-batches that never divide a pair."""
    policy, objective = learner.policy, learner.spec.objective
    sequences = sequences_of(examples)
    width = max(len(answer) for answer in sequences.answers)
    mask_NT = mask_of(sequences.answers, width).to(policy.device)
    pair_weight_N = torch.full((len(examples),), 1 / len(examples), device=policy.device)
    whole = Pairs(mask_NT[0::2], mask_NT[1::2], pair_weight_N)
    nll_weight_NT = objective.token_weights(whole)
    plan = micro_batches(
        sequences,
        range(len(sequences.answers)),
        budget=learner.spec.batch.tokens_per_microbatch,
        shared=policy.shared_prefix,
        whole_groups=True,
    )
    for rows in plan:
        learner.session.tick()
        pairs = sorted({sequences.prompt_of[answer] for row in rows for answer in row.answers})
        answers = [answer for pair in pairs for answer in (2 * pair, 2 * pair + 1)]
        batch = Pairs(
            chosen_mask_BT=whole.chosen_mask_BT[pairs],
            rejected_mask_BT=whole.rejected_mask_BT[pairs],
            pair_weight_B=pair_weight_N[pairs],
            nll_weight_BT=None if nll_weight_NT is None else nll_weight_NT[pairs],
        )
        if "reference" in objective.uses:
            _add_reference(learner, batch, [examples[p] for p in pairs], known, sequences, rows)
        logp = fitted(token_scores(policy, sequences, answers, rows=rows).padded()[0], width)
        batch.chosen_logp_BT, batch.rejected_logp_BT = logp[0::2], logp[1::2]
        yield objective.loss(batch)


def _add_reference(
    learner: PairLearner,
    batch: Pairs,
    examples: Sequence[Example],
    known: dict[str, tuple[float, float]],
    sequences: Sequences,
    rows: list,
) -> None:
    if any(example.id not in known for example in examples):
        with learner.session.clock.part("logprob"):
            answers = sorted(answer for row in rows for answer in row.answers)
            logp = learner.reference.token_logps(sequences, answers, rows, 1.0)
            sums = torch.where(mask_of_width(sequences, answers, logp), logp, 0.0).sum(-1).tolist()
        for index, example in enumerate(examples):
            known.setdefault(example.id, (sums[2 * index], sums[2 * index + 1]))
    device = learner.policy.device
    values = torch.tensor([known[example.id] for example in examples], device=device)
    batch.ref_chosen_score_B, batch.ref_rejected_score_B = values[:, 0], values[:, 1]
