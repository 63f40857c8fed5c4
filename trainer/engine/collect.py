"""One batch of rollouts from prompts to advantages: sample, score, ask the other models, compare.

Legend: N answers of the rollout batch, A answer tokens (T as an advantage names them), B answers of a
micro-batch, K rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.engine.buffer import Buffer
from trainer.engine.exchange import sampled_everywhere, scored_everywhere
from trainer.engine.forward import token_scores
from trainer.engine.packing import micro_batches
from trainer.engine.rollout_metrics import rollout_metrics, samples_of
from trainer.engine.sampler import SAMPLING_FACTOR, Sampling
from trainer.engine.scoring import score
from trainer.engine.seeds import sample_keys
from trainer.engine.sharding import whole
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
    from trainer.engine.seeds import Words
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
        sampled: list[Sampled] | None = None,
    ) -> tuple[Buffer, dict[str, float]]:
        """The batch of `step`, ready for its first update, and what was measured on the way.

        `visited` is the cursor behind the batch; `sampled` are its answers where they were drawn ahead.
        """
        clock, spec = self.session.clock, self.spec
        assert spec.advantage is not None
        greedy: list[Sampled] = []
        if sampled is None:
            if self.policy.generator.holds_copy:
                with clock.part("sync"):
                    self.policy.generator.sync()
            with clock.part("rollout"):
                sampled = self._sample("train", step, examples, spec.rollout.group_size)
                # Drawn at temperature 0: a baseline, never trained on.
                if "greedy" in spec.advantage.needs:
                    greedy = self._sample("greedy", step, examples, 1)
                self.policy.generator.rest()
        with clock.part("reward"):
            scored = self._score(examples, sampled)
            greedy_scored = self._score(examples, greedy) if greedy else None
        buffer = Buffer.of(examples, sampled, visited)
        buffer.age_N = self._ages(sampled)
        with clock.part("logprob"):
            if spec.makes_good.old_policy == "trainer":
                self.add_old(buffer)
            elif (
                "sampled-entropy" in spec.objective.uses and not self.policy.generator.tells_entropy
            ):
                self.add_entropies(buffer)
            if "reference" in spec.objective.uses or spec.objective.reward_kl(dials):
                self.add_reference(buffer)
            if self.critic is not None:
                self.add_values(buffer, self.critic)
        with clock.part("reward"):
            values = self._add_advantages(buffer, scored, greedy_scored, dials)
        values |= rollout_metrics(sampled, scored, buffer, greedy_scored)
        if rollout_seconds := clock.spent("rollout"):
            tokens = sum(len(item.tokens) for item in [*sampled, *greedy])
            values["tokens/rollout_per_s"] = tokens / rollout_seconds
        if self.session.report.wants_samples():
            self.session.report.write_samples(
                samples_of(
                    step,
                    examples,
                    sampled,
                    scored,
                    buffer.advantage_N.tolist(),
                    [self._version(step, item) for item in sampled],
                )
            )
        return buffer, values

    def _version(self, step: int, item: Sampled) -> int:
        """The optimizer steps behind the weights that drew the oldest token of an answer for `step`."""
        behind = self.policy.version - min(item.versions) if item.versions else 0
        return step - 1 - behind

    def _ages(self, sampled: Sequence[Sampled]) -> torch.Tensor | None:
        """Whole batches between the oldest token of each answer and now."""
        if not any(item.versions for item in sampled):
            return None
        batch = self.spec.batch
        updates = batch.minibatches * batch.updates_per_rollout
        now = self.policy.version
        return torch.tensor([(now - min(item.versions or [now])) // updates for item in sampled])

    def add_reference(self, buffer: Buffer) -> None:
        """Reference log-probabilities: once per batch, so that every update sees the same.

        They are of the tokens that truncated sampling kept, as the policy's are: both sides then are
        distributions over the same tokens, every value is finite, and their KL is 0 where they agree.
        KL(q || full reference) differs by the reference's kept mass, which no weight of the policy moves.
        """
        sequences = buffer.sequences
        buffer.ref_logp_NA = torch.zeros_like(buffer.old_logp_NA)
        ranks = self.session.ranks
        for rows, chosen in self.plan(buffer, buffer.dealt(ranks, range(len(sequences.answers)))):
            logp_BA = self.reference.token_logps(
                sequences, chosen, rows, self.spec.rollout.temperature
            )
            buffer.ref_logp_NA[chosen, : logp_BA.shape[1]] = logp_BA.cpu()
        # Each answer was read by one rank; the others have zeros there.
        ranks.add(buffer.ref_logp_NA)

    def add_entropies(self, buffer: Buffer) -> None:
        """Entropies of the policy that sampled, where the engine has not told them."""
        buffer.old_entropy_NA = self._scores(buffer)[1]

    def add_old(self, buffer: Buffer) -> None:
        """The trainer's own log-probabilities as those that ratios compare with, and its entropies."""
        buffer.sampler_logp_NA = buffer.old_logp_NA
        buffer.old_logp_NA, buffer.old_entropy_NA = self._scores(buffer)

    def _scores(self, buffer: Buffer) -> tuple[torch.Tensor, torch.Tensor]:
        """The policy's log-probabilities and entropies (N, A) of all answers, on the CPU."""
        sequences, temperature = buffer.sequences, self.spec.rollout.temperature
        ranks = self.session.ranks
        logp_NA = torch.zeros_like(buffer.old_logp_NA)
        entropy_NA = torch.zeros_like(logp_NA)
        mine = buffer.dealt(ranks, range(len(sequences.answers)))
        with torch.no_grad(), whole(self.policy, ranks):
            for rows, chosen in self.plan(buffer, mine):
                scores = token_scores(
                    self.policy, sequences, chosen, rows=rows, temperature=temperature
                )
                logp_BA, entropy_BA, _ = scores.padded()
                logp_NA[chosen, : logp_BA.shape[1]] = logp_BA.cpu()
                entropy_NA[chosen, : entropy_BA.shape[1]] = entropy_BA.cpu()
        # Each answer was read by one rank; the others have zeros there.
        for found_NA in (logp_NA, entropy_NA):
            ranks.add(found_NA)
        return logp_NA, entropy_NA

    def add_values(self, buffer: Buffer, critic: Critic) -> None:
        """What the critic expects before it learns from this batch."""
        sequences, ranks = buffer.sequences, self.session.ranks
        buffer.value_NA = torch.zeros_like(buffer.old_logp_NA)
        mine = buffer.dealt(ranks, range(len(sequences.answers)))
        with torch.no_grad():
            for rows, chosen in self.plan(buffer, mine):
                value_BA = critic.values(sequences, chosen, rows)
                buffer.value_NA[chosen, : value_BA.shape[1]] = value_BA.cpu()
        ranks.add(buffer.value_NA)

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

    @property
    def how(self) -> Sampling:
        """How answers to learn from are drawn."""
        rollout = self.spec.rollout
        return Sampling(
            rollout.max_new_tokens, rollout.temperature, rollout.top_p, rollout.top_k, rollout.min_p
        )

    def keys(self, step: int, prompts: int) -> Words:
        """The seeds of the answers to learn from (prompts, group size)."""
        return sample_keys(
            self.spec.seed, "train", step, list(range(prompts)), self.spec.rollout.group_size
        )

    def _sample(
        self, purpose: str, step: int, examples: Sequence[Example], answers: int
    ) -> list[Sampled]:
        greedy = Sampling(self.spec.rollout.max_new_tokens, temperature=0.0)
        how = greedy if purpose == "greedy" else self.how
        # A draw depends on the prompt's number in the batch, not on who draws it.
        mine = self.session.ranks.share(len(examples))
        with whole(self.policy, self.session.ranks):
            sampled = self.policy.generator.sample(
                [examples[index].prompt for index in mine],
                sample_keys(self.spec.seed, purpose, step, list(mine), answers),
                how,
                budget=SAMPLING_FACTOR * self._budget,
                tick=self.session.tick,
            )
        return sampled_everywhere(self.session.ranks, sampled, mine.start)

    def _score(self, examples: Sequence[Example], sampled: Sequence[Sampled]) -> Scored:
        ranks = self.session.ranks
        share = ranks.share(len(examples))
        mine = [item for item in sampled if item.prompt in share]
        scored = score(self.policy, self.spec.rewards, examples, mine, self.session.tick)
        return scored_everywhere(ranks, scored)

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
