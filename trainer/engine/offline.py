"""Learning from written answers: demonstrations, and preference pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from trainer.engine.batches import Demonstrations, Pairs
from trainer.engine.forward import Sequences, micro_batches, token_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss, Objective
    from trainer.spec import RunSpec


def sequences_of(examples: Sequence[Example]) -> Sequences:
    """The examples' answers behind their prompts, in order."""
    answers = [ids for example in examples for ids in example.answers]
    prompt_of = [index for index, example in enumerate(examples) for _ in example.answers]
    return Sequences([example.prompt for example in examples], answers, prompt_of)


def mask_of(answers: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    """Which of `width` cells hold tokens."""
    lengths = torch.tensor([len(answer) for answer in answers])
    return torch.arange(width)[None, :] < lengths[:, None]


class _Offline:
    """What both kinds share: a batch of examples for each step."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        self.session, self.spec, self.policy = session, spec, policy
        self.reference, self.cursor = reference, cursor
        self.updates = 1
        self.examples: list[Example] = []
        self.visited: list[int] = []

    def gather(self, state: State, means: Means) -> dict[str, float]:
        """Take the next examples."""
        with self.session.clock.part("data"):
            self.examples, self.visited = self.cursor.take(
                state.visited, self.spec.batch.prompts_per_step
            )
        return {}

    def commit(self, state: State) -> int:
        """Move the state behind this step; returns the tokens that were processed."""
        state.visited = self.visited
        prompts = sum(len(example.prompt) * len(example.answers) for example in self.examples)
        return prompts + self.answer_tokens()

    def answer_tokens(self) -> int:
        """Answer tokens of the step."""
        return sum(len(ids) for example in self.examples for ids in example.answers)


class DemonstrationLearner(_Offline):
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

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """Nothing beside the state."""
        return {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Nothing to take up."""


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
        logp, entropy, correct = (_fit(values, width) for values in scores.padded())
        batch = Demonstrations(
            mask_BT=whole.mask_BT[chosen],
            weight_BT=weight_NT[chosen],
            logp_BT=logp,
            entropy_BT=entropy,
            correct_BT=correct,
        )
        loss = objective.loss(batch)
        means.add("entropy", float(entropy.sum()), float(batch.mask_BT.sum()))
        yield loss


class PairLearner(_Offline):
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
    chosen_weight_NT = objective.token_weights(whole)
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
            chosen_weight_BT=chosen_weight_NT[pairs],
        )
        if objective.uses_reference:
            _add_reference(learner, batch, [examples[p] for p in pairs], known, sequences, rows)
        logp = _fit(token_scores(policy, sequences, answers, rows=rows).padded()[0], width)
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
    batch.ref_chosen_logp_B, batch.ref_rejected_logp_B = values[:, 0], values[:, 1]


def mask_of_width(
    sequences: Sequences, answers: Sequence[int], values: torch.Tensor
) -> torch.Tensor:
    """The mask of some answers in the width of `values`."""
    mask = mask_of([sequences.answers[answer] for answer in answers], values.shape[1])
    return mask.to(values.device)


def _fit(values_BA: torch.Tensor, width: int) -> torch.Tensor:
    missing = width - values_BA.shape[1]
    return pad(values_BA, (0, missing)) if missing else values_BA
