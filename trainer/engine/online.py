"""Learning from rollouts: a batch from the collector, then one or several updates on it.

A step in reading order: `loop.Loop._step` asks the learner to `gather` (which samples when a new batch is
due: `collect.Collector.collect`), differentiates what `losses` yields micro-batch by micro-batch
(`update.optimizer_step`) and has it `commit`.
Legend: N answers of the rollout batch, A answer tokens (T in a loss: padded to the rollout batch's width), B
answers of an update or micro-batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

from trainer.engine.ahead import Ahead
from trainer.engine.buffer import Buffer, rows_of
from trainer.engine.collect import Collector
from trainer.engine.critic import Critic
from trainer.engine.forward import token_scores
from trainer.engine.mismatch import Mismatch, MismatchAlarm, correction_weights
from trainer.engine.offline import fitted
from trainer.engine.packing import padding
from trainer.engine.progression import total_steps
from trainer.engine.rollout_metrics import Ratios, ahead_metrics
from trainer.engine.sharding import idle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.engine.ahead import Apart
    from trainer.engine.batches import Rollouts
    from trainer.engine.dataset import Cursor
    from trainer.engine.means import Means
    from trainer.engine.packing import Row
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
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
        self.alarm = MismatchAlarm()
        self.ahead: Ahead | None = None
        self.counted: Mapping[str, float] = {}
        """The generator's counters at the last batch that was drawn ahead."""
        self.mine: list[int] = []
        """Answers of the update in hand."""

    # --- a batch of rollouts ---------------------------------------------------------------------

    @property
    def _collector(self) -> Collector:
        # Made anew: live knobs replace the spec.
        return Collector(self.session, self.spec, self.policy, self.reference, self.critic)

    def gather(self, state: State, means: Means) -> dict[str, float]:
        """Collect a new batch when one is due; returns what it measured."""
        if state.updates_done:
            assert self.buffer is not None
            return {}
        values = self._gather_ahead(state) if self.runs_ahead else self._gather_now(state)
        assert self.buffer is not None
        buffer = self.buffer
        if buffer.sampler_logp_NA is not None:
            gap = Mismatch(self.spec.makes_good)
            gap.add(buffer.old_logp_NA, buffer.sampler_logp_NA, buffer.mask_NA)
            gap.report(means)
            gap.report_rejected(means)
            self.alarm.look(gap, self.session, stale=buffer.oldest)
        return values

    @property
    def runs_ahead(self) -> bool:
        """Whether batches are drawn while older ones are learned from."""
        return self.spec.rollout.max_staleness > 0

    def _gather_now(self, state: State) -> dict[str, float]:
        with self.session.clock.part("data"):
            examples, visited = self.cursor.take(state.visited, self.spec.batch.prompts_per_step)
        self.buffer, values = self._collector.collect(state.step + 1, examples, visited, self.dials)
        return values

    def _gather_ahead(self, state: State) -> dict[str, float]:
        """Take the batch that is due, when it is there, and see that the next ones are being drawn."""
        clock, spec, collector = self.session.clock, self.spec, self._collector
        generator = cast("Apart", self.policy.generator)
        if self.ahead is None:
            self.ahead = Ahead(generator, self.cursor)
        with clock.part("sync"):
            generator.sync()
        with clock.part("data"):
            self.ahead.fill(
                step=state.step + 1,
                updates=self.updates,
                last=total_steps(spec, self.cursor.rows, self.updates),
                visited=state.visited,
                size=spec.batch.prompts_per_step,
                how=collector.how,
                most=spec.rollout.max_staleness,
                keys=collector.keys,
            )
        with clock.part("wait"):
            asked, sampled = self.ahead.take(state.step + 1, self.session.tick)
        self.buffer, values = collector.collect(
            asked.step, asked.examples, asked.visited, self.dials, sampled
        )
        before, self.counted = self.counted, generator.stats()
        waiting = len(self.ahead.waiting)
        return values | ahead_metrics(self.buffer, waiting, before, self.counted)

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
        ranks = self.session.ranks
        if skipped and ranks.first:
            # Without a forward pass they still count in every denominator of the loss.
            quiet = rows_of(whole, silent_B.nonzero()[:, 0].tolist())
            quiet.logp_BT, quiet.entropy_BT = quiet.old_logp_BT, quiet.old_entropy_BT
            yield objective.loss(quiet)
        ratios, gap = Ratios(), Mismatch(self.spec.makes_good)
        heard = [answer for answer in self.mine if not silent_B[place[answer]]]
        plan = list(self._collector.plan(buffer, buffer.dealt(ranks, heard)))
        rounds = ranks.most(len(plan)) if ranks.sharded else 0
        for rows, chosen in plan:
            means.add("batch/pad_frac", *padding(rows))
            part = rows_of(whole, [place[answer] for answer in chosen])
            self._forward(buffer, part, rows, chosen)
            assert part.logp_BT is not None and part.entropy_BT is not None
            logp_BT = part.logp_BT.detach()
            ratios.add(logp_BT, part.old_logp_BT, part.mask_BT)
            if buffer.sampler_logp_NA is None:
                gap.add(logp_BT, part.old_logp_BT, part.mask_BT)
                self._reject(part)
            if state.updates_done or not self.policy.generator.tells_entropy:
                entropy = part.entropy_BT.detach()[part.mask_BT]
                means.add("entropy", float(entropy.sum()), len(entropy))
            yield objective.loss(part)
        yield from idle(self.policy, rounds - len(plan))
        ratios.over(ranks)
        ratios.report(means)
        if buffer.sampler_logp_NA is None:
            gap.over(ranks)
            gap.report_rejected(means)
            if state.updates_done == 0:
                gap.report(means)
                self.alarm.look(gap, self.session, stale=buffer.oldest)
        if self.critic is not None:
            self.critic.clip(self.spec.optimizer.max_grad_norm, means, ranks)

    def _whole(self, buffer: Buffer) -> Rollouts:
        """The answers of this update with the weights of their tokens: micro-batches are slices of it."""
        objective = self.spec.objective
        if "reference" in objective.uses and buffer.ref_logp_NA is None:
            # A live knob has asked for it since the batch was sampled.
            with self.session.clock.part("logprob"):
                self._collector.add_reference(buffer)
        whole = buffer.rollouts(self.mine, self.policy.device, self.spec.rollout.max_new_tokens)
        if "reference" not in objective.uses:
            whole.ref_logp_BT = None
        whole.dials = self.dials
        whole.weight_BT = objective.token_weights(whole)
        whole.term_weight_BT = objective.term_weights(whole)
        plan = self.spec.makes_good
        if plan.acts and whole.sampler_logp_BT is not None:
            log_rho_BT = whole.old_logp_BT - whole.sampler_logp_BT
            whole.correction_BT = correction_weights(log_rho_BT, whole.mask_BT, plan, whole.age_B)
        return whole

    def _reject(self, part: Rollouts) -> None:
        """By the present ratio, where the ratio is to the sampler."""
        plan = self.spec.makes_good
        if plan.acts:
            assert part.logp_BT is not None
            log_rho_BT = part.logp_BT - part.old_logp_BT
            part.correction_BT = correction_weights(log_rho_BT, part.mask_BT, plan, part.age_B)

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
