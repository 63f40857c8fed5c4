"""Learning from rollouts: sample, score, compare, then one or several updates.

Legend: N answers of the rollout batch, A answer tokens, B answers of an update or micro-batch, K rewards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainer.engine.buffer import Buffer, rows_of
from trainer.engine.critic import Critic
from trainer.engine.forward import token_scores
from trainer.engine.offline import fitted
from trainer.engine.packing import micro_batches, padding
from trainer.engine.progression import total_steps
from trainer.engine.rollout_metrics import Ratios, rollout_metrics, samples_of
from trainer.engine.sampler import SAMPLING_FACTOR, Sampling, sample
from trainer.engine.scoring import score
from trainer.engine.seeds import sample_keys
from trainer.methods import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.engine.batches import Rollouts
    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.means import Means
    from trainer.engine.packing import Row
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.sampler import Sampled
    from trainer.engine.scoring import Scored
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss
    from trainer.spec import RunSpec


class OnlineLearner:
    """Samples when a new batch is due, and gives the losses of each update on it."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None:
        self.session, self.spec, self.policy = session, spec, policy
        self.reference, self.cursor = reference, cursor
        self.updates = spec.batch.minibatches * spec.batch.updates_per_rollout
        self.dials: Mapping[str, float] = spec.objective.dials({}, {}, 0.0)
        self.critic = Critic(policy, spec.optimizer) if "critic" in spec.objective.uses else None
        self.buffer: Buffer | None = None
        self.mine: list[int] = []
        """Answers of the update in hand."""

    # --- a batch of rollouts ---------------------------------------------------------------------

    def gather(self, state: State, means: Means) -> dict[str, float]:
        """Sample and score a new batch when one is due; returns what it measured."""
        if state.updates_done:
            assert self.buffer is not None
            return {}
        clock, spec, step = self.session.clock, self.spec, state.step + 1
        assert spec.advantage is not None
        with clock.part("data"):
            examples, visited = self.cursor.take(state.visited, spec.batch.prompts_per_step)
        with clock.part("rollout"):
            sampled = self._sample("train", step, examples, spec.rollout.group_size)
            # Drawn at temperature 0: a baseline, never trained on.
            wants_greedy = "greedy" in spec.advantage.needs
            greedy = self._sample("greedy", step, examples, 1) if wants_greedy else []
        with clock.part("reward"):
            scored = self._score(examples, sampled)
            greedy_scored = self._score(examples, greedy) if greedy else None
        buffer = Buffer.of(examples, sampled, visited)
        with clock.part("logprob"):
            if "reference" in spec.objective.uses or spec.objective.reward_kl(self.dials):
                self._add_reference(buffer)
            if self.critic is not None:
                self._add_values(buffer, self.critic)
        with clock.part("reward"):
            values = self._add_advantages(buffer, scored, greedy_scored)
        self.buffer = buffer
        values |= rollout_metrics(sampled, scored, buffer, greedy_scored)
        tokens = sum(len(item.tokens) for item in [*sampled, *greedy])
        values["tokens/rollout_per_s"] = tokens / max(clock.spent("rollout"), 1e-9)
        if self.session.report.wants_samples():
            self.session.report.write_samples(
                samples_of(step, examples, sampled, scored, buffer.advantage_N.tolist())
            )
        return values

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
        return sample(
            self.policy,
            [example.prompt for example in examples],
            sample_keys(self.spec.seed, purpose, step, list(range(len(examples))), answers),
            how,
            budget=SAMPLING_FACTOR * self._budget,
            tick=self.session.tick,
        )

    def _score(self, examples: Sequence[Example], sampled: Sequence[Sampled]) -> Scored:
        return score(self.policy, self.spec.rewards, examples, sampled, self.session.tick)

    def _add_reference(self, buffer: Buffer) -> None:
        """Reference log-probabilities: once per batch, so that every update sees the same.

        They are of the tokens that truncated sampling kept, as the policy's are: both sides then are
        distributions over the same tokens, every value is finite, and their KL is 0 where they agree.
        KL(q || full reference) differs by the reference's kept mass, which no weight of the policy moves.
        """
        sequences = buffer.sequences
        buffer.ref_logp_NA = torch.zeros_like(buffer.old_logp_NA)
        for rows, chosen in self._plan(buffer, range(len(sequences.answers))):
            logp_BA = self.reference.token_logps(
                sequences, chosen, rows, self.spec.rollout.temperature
            )
            buffer.ref_logp_NA[chosen, : logp_BA.shape[1]] = logp_BA.cpu()

    def _add_values(self, buffer: Buffer, critic: Critic) -> None:
        """What the critic expects before it learns from this batch."""
        sequences = buffer.sequences
        buffer.value_NA = torch.zeros_like(buffer.old_logp_NA)
        with torch.no_grad():
            for rows, chosen in self._plan(buffer, range(len(sequences.answers))):
                value_BA = critic.values(sequences, chosen, rows)
                buffer.value_NA[chosen, : value_BA.shape[1]] = value_BA.cpu()

    def _add_advantages(
        self, buffer: Buffer, scored: Scored, greedy: Scored | None
    ) -> dict[str, float]:
        """From scores to advantages; returns the KL where it is in the reward."""
        advantage, rewards, mask_NA = self.spec.advantage, self.spec.rewards, buffer.mask_NA
        assert advantage is not None
        penalty_NA, values = self._penalty(buffer)
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

    def _penalty(self, buffer: Buffer) -> tuple[torch.Tensor | None, dict[str, float]]:
        """What each token pays where KL is in the reward, and the mean KL."""
        weight = self.spec.objective.reward_kl(self.dials)
        if not weight:
            return None, {}
        assert buffer.ref_logp_NA is not None
        log_ratio_NA = torch.where(buffer.mask_NA, buffer.old_logp_NA - buffer.ref_logp_NA, 0.0)
        # log(pi / pi_ref) itself: any other estimate would give the policy gradient of something else.
        return weight * log_ratio_NA, {"kl": float(log_ratio_NA.sum() / buffer.mask_NA.sum())}

    # --- an update on it -------------------------------------------------------------------------

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches of one update; means collect what they measured."""
        buffer, objective, batch = self.buffer, self.spec.objective, self.spec.batch
        assert buffer is not None
        sampled_at = state.step + 1 - state.updates_done
        self.mine = buffer.minibatch(
            self.spec.seed, sampled_at, state.updates_done, batch.minibatches
        )
        place = {answer: index for index, answer in enumerate(self.mine)}
        whole = self._whole(buffer)
        silent_B = self._silent(whole).cpu()
        lengths_B = whole.mask_BT.sum(-1).cpu()
        skipped = float(lengths_B[silent_B].sum())
        means.add("groups/skipped_tokens_frac", skipped, whole.tokens)
        if self.critic is not None:
            self.critic.zero_grad()
        if skipped:
            # Without a forward pass they still count in every denominator; their ratio is taken as 1.
            quiet = rows_of(whole, silent_B.nonzero()[:, 0].tolist())
            quiet.logp_BT, quiet.entropy_BT = quiet.old_logp_BT, quiet.old_entropy_BT
            yield objective.loss(quiet)
        ratios = Ratios(skipped)
        heard = [answer for answer in self.mine if not silent_B[place[answer]]]
        for rows, chosen in self._plan(buffer, heard):
            means.add("batch/pad_frac", *padding(rows))
            part = rows_of(whole, [place[answer] for answer in chosen])
            self._forward(buffer, part, rows, chosen)
            assert part.logp_BT is not None and part.entropy_BT is not None
            ratios.add(part.logp_BT.detach(), part.old_logp_BT, part.mask_BT)
            if state.updates_done:
                entropy = part.entropy_BT.detach()[part.mask_BT]
                means.add("entropy", float(entropy.sum()), len(entropy))
            yield objective.loss(part)
        ratios.report(means, first=state.updates_done == 0)
        if self.critic is not None:
            self.critic.clip(self.spec.optimizer.max_grad_norm, means)

    def _whole(self, buffer: Buffer) -> Rollouts:
        """The answers of this update with the weights of their tokens: micro-batches are slices of it."""
        objective = self.spec.objective
        if "reference" in objective.uses and buffer.ref_logp_NA is None:
            # A live knob has asked for it since the batch was sampled.
            with self.session.clock.part("logprob"):
                self._add_reference(buffer)
        whole = buffer.rollouts(self.mine, self.policy.device, self.spec.rollout.max_new_tokens)
        if "reference" not in objective.uses:
            whole.ref_logp_BT = None
        whole.dials = self.dials
        whole.weight_BT = objective.token_weights(whole)
        whole.term_weight_BT = objective.term_weights(whole)
        return whole

    def _silent(self, whole: Rollouts) -> torch.Tensor:
        """Which answers have no gradient: no token of theirs has an advantage."""
        if not self.spec.objective.silent_without_advantage:
            return torch.zeros_like(whole.group_B, dtype=torch.bool)
        return ~(whole.mask_BT & (whole.advantage_BT != 0)).any(-1)

    def _forward(
        self, buffer: Buffer, part: Rollouts, rows: list[Row], chosen: Sequence[int]
    ) -> None:
        """What the models say now about the answers of a micro-batch."""
        width = part.mask_BT.shape[1]
        logp_BA, entropy_BA, _ = token_scores(
            self.policy,
            buffer.sequences,
            chosen,
            rows=rows,
            temperature=self.spec.rollout.temperature,
            entropy_gradient="entropy" in self.spec.objective.uses,
        ).padded()
        part.logp_BT, part.entropy_BT = fitted(logp_BA, width), fitted(entropy_BA, width)
        if self.critic is not None:
            part.value_BT = fitted(self.critic.values(buffer.sequences, chosen, rows), width)

    def _plan(self, buffer: Buffer, wanted: Sequence[int]) -> Iterator[tuple[list[Row], list[int]]]:
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

    def commit(self, state: State) -> int:
        """Move the state behind one update; returns the tokens that were processed for it."""
        assert self.buffer is not None
        if self.critic is not None:
            spec = self.spec
            total = total_steps(spec, self.cursor.rows, self.updates)
            lr = getattr(spec.objective, "critic_lr", 0.0) or spec.optimizer.lr
            self.critic.step(lr * spec.schedule.factor(state.step + 1, total))
        state.updates_done = (state.updates_done + 1) % self.updates
        # The cursor stays before the batch until its last update: a resumed run finds the batch saved.
        if state.updates_done == 0:
            state.visited = self.buffer.visited
        return sum(self.buffer.tokens(self.mine))

    def answer_tokens(self) -> int:
        """Answer tokens of the update in hand."""
        assert self.buffer is not None
        return self.buffer.tokens(self.mine)[1]

    # --- what a checkpoint holds -----------------------------------------------------------------

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """The critic, and the batch in hand when updates on it remain."""
        saved = {} if self.critic is None else self.critic.tensors()
        if state.updates_done and self.buffer is not None:
            saved |= self.buffer.tensors()
        return saved

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave."""
        if self.critic is not None and tensors:
            self.critic.restore(tensors)
        if "answer_tokens" in tensors:
            self.buffer = Buffer.restored(tensors)
