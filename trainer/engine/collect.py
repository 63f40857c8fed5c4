"""One batch of rollouts from prompts to advantages: sample, score, ask the other models, compare.

Legend: N answers of the rollout batch, A answer tokens (T as an advantage names them), B answers of a
micro-batch, K rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.engine.buffer import Buffer
from trainer.engine.forward import token_scores
from trainer.engine.packing import micro_batches
from trainer.engine.rollout_metrics import rollout_metrics, samples_of
from trainer.engine.sampler import SAMPLING_FACTOR, Sampling
from trainer.engine.scoring import score
from trainer.engine.seeds import sample_keys
from trainer.methods import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.engine.critic import Critic
    from trainer.engine.dataset import Example
    from trainer.engine.packing import Row
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.sampler import Sampled
    from trainer.engine.scoring import Scored
    from trainer.engine.session import Session
    from trainer.spec import RunSpec


@dataclass(frozen=True)
class Collector:
    """Makes rollout batches."""

    session: Session
    spec: RunSpec
    policy: Policy
    reference: Reference
    critic: Critic | None

    def collect(
        self,
        step: int,
        examples: Sequence[Example],
        visited: list[int],
        dials: Mapping[str, float],
    ) -> tuple[Buffer, dict[str, float]]:
        """The batch of `step`, ready for its first update, and what was measured on the way.

        `visited` is the cursor behind the batch.
        """
        clock, spec = self.session.clock, self.spec
        assert spec.advantage is not None
        if self.policy.generator.holds_copy:
            with clock.part("sync"):
                self.policy.generator.sync()
        with clock.part("rollout"):
            sampled = self._sample("train", step, examples, spec.rollout.group_size)
            # Drawn at temperature 0: a baseline, never trained on.
            wants_greedy = "greedy" in spec.advantage.needs
            greedy = self._sample("greedy", step, examples, 1) if wants_greedy else []
            self.policy.generator.rest()
        with clock.part("reward"):
            scored = self._score(examples, sampled)
            greedy_scored = self._score(examples, greedy) if greedy else None
        buffer = Buffer.of(examples, sampled, visited)
        with clock.part("logprob"):
            if "sampled-entropy" in spec.objective.uses and not self.policy.generator.tells_entropy:
                self.add_entropies(buffer)
            if "reference" in spec.objective.uses or spec.objective.reward_kl(dials):
                self.add_reference(buffer)
            if self.critic is not None:
                self.add_values(buffer, self.critic)
        with clock.part("reward"):
            values = self._add_advantages(buffer, scored, greedy_scored, dials)
        values |= rollout_metrics(sampled, scored, buffer, greedy_scored)
        tokens = sum(len(item.tokens) for item in [*sampled, *greedy])
        values["tokens/rollout_per_s"] = tokens / max(clock.spent("rollout"), 1e-9)
        if self.session.report.wants_samples():
            self.session.report.write_samples(
                samples_of(step, examples, sampled, scored, buffer.advantage_N.tolist())
            )
        return buffer, values

    def add_reference(self, buffer: Buffer) -> None:
        """Reference log-probabilities: once per batch, so that every update sees the same.

        They are of the tokens that truncated sampling kept, as the policy's are: both sides then are
        distributions over the same tokens, every value is finite, and their KL is 0 where they agree.
        KL(q || full reference) differs by the reference's kept mass, which no weight of the policy moves.
        """
        sequences = buffer.sequences
        buffer.ref_logp_NA = torch.zeros_like(buffer.old_logp_NA)
        for rows, chosen in self.plan(buffer, range(len(sequences.answers))):
            logp_BA = self.reference.token_logps(
                sequences, chosen, rows, self.spec.rollout.temperature
            )
            buffer.ref_logp_NA[chosen, : logp_BA.shape[1]] = logp_BA.cpu()

    def add_entropies(self, buffer: Buffer) -> None:
        """Entropies of the policy that sampled, where the engine has not told them."""
        sequences = buffer.sequences
        with torch.no_grad():
            for rows, chosen in self.plan(buffer, range(len(sequences.answers))):
                scores = token_scores(
                    self.policy,
                    sequences,
                    chosen,
                    rows=rows,
                    temperature=self.spec.rollout.temperature,
                )
                entropy_BA = scores.padded()[1]
                buffer.old_entropy_NA[chosen, : entropy_BA.shape[1]] = entropy_BA.cpu()

    def add_values(self, buffer: Buffer, critic: Critic) -> None:
        """What the critic expects before it learns from this batch."""
        sequences = buffer.sequences
        buffer.value_NA = torch.zeros_like(buffer.old_logp_NA)
        with torch.no_grad():
            for rows, chosen in self.plan(buffer, range(len(sequences.answers))):
                value_BA = critic.values(sequences, chosen, rows)
                buffer.value_NA[chosen, : value_BA.shape[1]] = value_BA.cpu()

    def plan(self, buffer: Buffer, wanted: Sequence[int]) -> Iterator[tuple[list[Row], list[int]]]:
        """Micro-batches of the wanted answers: rows, and the answers in them."""
        plan = micro_batches(
            buffer.sequences,
            wanted,
            budget=self._budget,
            shared=self.policy.shared_prefix,
            packed=self.spec.batch.packing == "rows",
        )
        for rows in plan:
            self.session.tick()
            yield rows, [answer for row in rows for answer in row.answers]

    @property
    def _budget(self) -> int:
        return self.spec.batch.tokens_per_microbatch

    def _sample(
        self, purpose: str, step: int, examples: Sequence[Example], answers: int
    ) -> list[Sampled]:
        rollout = self.spec.rollout
        how = Sampling(rollout.max_new_tokens, temperature=0.0)
        if purpose != "greedy":
            how = Sampling(
                rollout.max_new_tokens,
                rollout.temperature,
                rollout.top_p,
                rollout.top_k,
                rollout.min_p,
            )
        return self.policy.generator.sample(
            [example.prompt for example in examples],
            sample_keys(self.spec.seed, purpose, step, list(range(len(examples))), answers),
            how,
            budget=SAMPLING_FACTOR * self._budget,
            tick=self.session.tick,
        )

    def _score(self, examples: Sequence[Example], sampled: Sequence[Sampled]) -> Scored:
        return score(self.policy, self.spec.rewards, examples, sampled, self.session.tick)

    def _add_advantages(
        self,
        buffer: Buffer,
        scored: Scored,
        greedy: Scored | None,
        dials: Mapping[str, float],
    ) -> dict[str, float]:
        """From scores to advantages; returns the KL where it is in the reward."""
        advantage, rewards, mask_NA = self.spec.advantage, self.spec.rewards, buffer.mask_NA
        assert advantage is not None
        penalty_NA, values = self._penalty(buffer, dials)
        outcomes = Outcomes(
            reward_N=torch.tensor(scored.totals, dtype=torch.float32),
            group_N=buffer.group_N,
            mask_NT=mask_NA,
            parts_NK=scored.parts_NK(),
            part_weight_K=torch.tensor([reward.weight for reward in rewards]),
            penalty_NT=penalty_NA,
            greedy_N=None if greedy is None else torch.tensor(greedy.totals)[buffer.group_N],
            value_NT=buffer.value_NA,
        )
        found = advantage.advantages(outcomes).float()
        found_NA = found if found.ndim == 2 else found[:, None].expand(mask_NA.shape)
        buffer.advantage_NA = torch.where(mask_NA, found_NA, 0.0)
        buffer.return_NA = advantage.returns(outcomes)
        return values

    def _penalty(
        self, buffer: Buffer, dials: Mapping[str, float]
    ) -> tuple[torch.Tensor | None, dict[str, float]]:
        """What each token pays where KL is in the reward, and the mean KL."""
        weight = self.spec.objective.reward_kl(dials)
        if not weight:
            return None, {}
        assert buffer.ref_logp_NA is not None
        log_ratio_NA = torch.where(buffer.mask_NA, buffer.old_logp_NA - buffer.ref_logp_NA, 0.0)
        # log(pi / pi_ref) itself: any other estimate would give the policy gradient of something else.
        return weight * log_ratio_NA, {"kl": float(log_ratio_NA.sum() / buffer.mask_NA.sum())}
