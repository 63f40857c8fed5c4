"""The training loop, in reading order: evaluate, save, obey, then one optimizer step."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import psutil
import torch

from trainer.engine.beside import Beside, News, Step, Teller
from trainer.engine.failure import Failure, Halt, Verdict
from trainer.engine.means import Means
from trainer.engine.progression import repeatable, share_done, total_steps
from trainer.engine.update import Diverged, optimizer_step
from trainer.live import AT_A_NEW_BATCH, value_at, with_knobs
from trainer.spans import TRAINER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.engine.changes import Changes
    from trainer.engine.dataset import Cursor
    from trainer.engine.evaluate import Evaluation
    from trainer.engine.policy import Policy
    from trainer.engine.reference import Reference
    from trainer.engine.saving import Saver
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.methods import Loss
    from trainer.spec import RunSpec


class Learner(Protocol):
    """Supplies what an optimizer step learns from."""

    spec: RunSpec
    reference: Reference
    updates: int
    """Optimizer steps on each batch that was gathered."""
    dials: Mapping[str, float]
    """The objective's coefficients of this step; set before `gather`."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, reference: Reference, cursor: Cursor
    ) -> None: ...

    def gather(self, state: State, means: Means) -> dict[str, float]:
        """Get a batch when one is due; returns what was measured on the way. Leaves the state alone."""

    def losses(self, state: State, means: Means) -> Iterator[Loss]:
        """The summed losses of the micro-batches of one optimizer step."""

    def commit(self, state: State) -> int:
        """Move the state behind the step; returns the tokens that were processed for it."""

    def answer_tokens(self) -> int:
        """Answer tokens of the batch in hand."""

    def tensors(self, state: State) -> dict[str, torch.Tensor]:
        """What a checkpoint must hold besides."""

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take up what `tensors` gave."""


@dataclass
class Loop:
    """One training: the run itself, or its warm-up."""

    session: Session
    spec: RunSpec
    policy: Policy
    optimizer: torch.optim.Optimizer
    learner: Learner
    cursor: Cursor
    evaluation: Evaluation | None
    state: State
    saver: Saver
    changes: Changes | None = None
    """What people want changed while it goes on; a warm-up takes no wishes."""
    phase: str = "train"
    prefix: str = ""
    """Before every metric key: "warmup/" during the warm-up."""
    peak_flops: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _now: float = field(init=False, default=0.0)
    """Seconds of training at the beginning of this turn, the same on every rank."""
    _norm: float = field(init=False, default=0.0)
    """Of the last gradient."""
    _beside: Beside = field(init=False)
    _joined: float = field(init=False, default=0.0)
    """When the ranks last had exchanged what they measured."""
    _launched: RunSpec = field(init=False)
    """The spec without live changes."""
    _refused: Mapping[str, object] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._beside = Beside(self.session.report)
        self._launched = self.spec
        if self.state.knobs:
            self._take(with_knobs(self.spec, self.state.knobs))

    def run(self) -> Verdict:
        """Train to the end. Raises Halt, after saving, when somebody wants the run to end earlier."""
        session, state = self.session, self.state
        self.started = time.monotonic() - state.elapsed
        self._enter(self.phase)
        session.clock.lap()
        with self.saver:
            try:
                while True:
                    self._now = session.orders.agree(self.elapsed(), self._norm)
                    self._apply_knobs()
                    done, asked = self._done(), self._asked()
                    self._evaluate(done is not None or "evaluate" in asked)
                    self._save(final=done is not None, asked="save" in asked)
                    self._met(asked)
                    if done is not None:
                        session.clock.lap()
                        self._spans(state.step, counts=False)
                        return done
                    session.orders.check(now=True)
                    self._step()
                    self.saver.look()
            except Halt:
                self._save_for_later()
                raise

    # --- the parts of a turn ---------------------------------------------------------------------

    def _done(self) -> Verdict | None:
        """How the run ends, when it is at its end."""
        state, budget = self.state, self.spec.budget
        total = self.total_steps()
        if total and state.step >= total:
            by_steps = budget.max_steps and state.step >= budget.max_steps
            if by_steps:
                return Verdict("finished", "finished", f"all {state.step} steps done")
            return Verdict("finished", "budget", f"{budget.max_epochs:g} epochs done")
        if budget.max_minutes and self._now >= 60 * budget.max_minutes:
            return Verdict("finished", "budget", f"{budget.max_minutes:g} minutes are over")
        return None

    def total_steps(self) -> int:
        """Optimizer steps until the first limit; 0 when only time limits the run."""
        return total_steps(self.spec, self.cursor.rows, self.learner.updates)

    def _evaluate(self, last: bool) -> None:
        state, every = self.state, self.spec.evaluation.every_steps
        due = state.step == 0 or last or (every and state.step % every == 0)
        if self.evaluation is None or not due or state.evaluated == state.step:
            return
        self._enter("eval")
        with self.session.clock.part("eval"):
            values = self.evaluation.values(state.step)
        if values:
            self.session.report.metrics(state.step, self._named(values))
        # A checkpoint of this step that was saved before its evaluation is written again, with it.
        state.metrics, state.evaluated, state.saved = values, state.step, -1
        self._enter(self.phase)

    def _step(self) -> None:
        session, spec, state = self.session, self.spec, self.state
        step, total, means = state.step + 1, self.total_steps(), Means()
        # The state keeps the old ones until the step is done: it may be broken off and done again.
        dials = spec.objective.dials(state.dials, state.seen, share_done(state.step, total))
        self.learner.dials = dials
        values = self.learner.gather(state, means)
        lr = spec.optimizer.lr * spec.schedule.factor(step, total)
        means.aside = [self._joined, session.clock.spans]
        try:
            with session.clock.part("update"):
                values |= optimizer_step(
                    self.policy,
                    self.optimizer,
                    self.learner.losses(state, means),
                    means,
                    lr=lr,
                    max_grad_norm=spec.optimizer.max_grad_norm,
                    tick=session.tick,
                    ranks=session.ranks,
                )
            self._ranks_heard(means)
        except Diverged as error:
            self._report(step, values | error.args[0], means)
            raise Failure("nan", f"step {step}: {_what_diverged(error.args[0])}") from error
        self._norm = values["grad_norm"]
        answer_tokens = self.learner.answer_tokens()
        tokens = self.learner.commit(state)
        state.num_tokens += tokens
        state.dials, state.seen = dials, repeatable(means.values() | values)
        state.step = session.report.step = step
        state.elapsed = self.elapsed()
        self._sync_reference()
        values |= dials
        values["tokens/train_per_s"] = answer_tokens / max(session.clock.spent("update"), 1e-9)
        values["num_tokens"] = state.num_tokens
        values["epoch"] = self.cursor.epoch(state.visited)
        self._report(step, values, means)

    def _sync_reference(self) -> None:
        """Pull the reference towards the policy where it is due, between two batches at the earliest."""
        plan, state = self.spec.reference, self.state
        if not plan.sync_every or state.updates_done:
            return
        before = state.step - self.learner.updates
        if state.step // plan.sync_every > before // plan.sync_every:
            with self.session.clock.part("sync"):
                self.learner.reference.sync(self.policy, plan.sync_mix)

    def _report(self, step: int, values: dict[str, float], means: Means) -> None:
        values = {**means.values(), **values, **self._machine()}
        times = self.session.clock.lap()
        if self.peak_flops and times["time/step"]:
            sampled = values.get("tokens/rollout_per_s", 0.0) * times["time/rollout"]
            done = self._arithmetic(values.get("groups/skipped_tokens_frac", 0.0), sampled)
            values["mfu"] = done / (times["time/step"] * self.peak_flops)
        self.session.report.metrics(step, self._named(values | times))
        self._spans(step)

    def _spans(self, step: int, *, counts: bool = True) -> None:
        """When each phase of the lap that has ended was at work; a warm-up has no plan."""
        clock, beside = self.session.clock, self._beside
        generator = self.policy.generator
        if isinstance(generator, Teller):
            for news in generator.news():
                beside.heard(news)
        if self.prefix:
            return
        written = self.session.report.spans(
            step, TRAINER, clock.spans, folded=clock.folded, counts=counts
        )
        if written is not None:
            beside.step(Step(step, clock.spans[0][1], clock.spans[-1][2], written))
        beside.tell(last=not counts)

    def _ranks_heard(self, means: Means) -> None:
        """What the other ranks did in the step before. They left its exchange when we did: so clocks compare."""
        met, self._joined = self._joined, means.met
        for rank, (met_there, spans) in enumerate(means.asides):
            if rank:
                ahead = met - met_there
                told = spans if met else []
                moved = [(phase, start + ahead, end + ahead) for phase, start, end in told]
                self._beside.heard(News(f"rank {rank}", moved))

    # --- saving ------------------------------------------------------------------------------------

    def _save(self, *, final: bool, asked: bool) -> None:
        every = self.spec.checkpoint.every_steps
        due = final or asked or (every and self.state.step and self.state.step % every == 0)
        # The end may come at a step that is saved already: max_steps was lowered to it, or the time is over.
        if due and (self.state.saved != self.state.step or (final and not self.state.final)):
            self._publish(final)

    def _save_for_later(self) -> None:
        """Before the attempt ends early: what was done since the last checkpoint must not be lost."""
        if not self.session.orders.fenced and 0 < self.state.step != self.state.saved:
            self._publish(final=False)

    def _publish(self, final: bool) -> None:
        session, state = self.session, self.state
        session.orders.check_fence()
        self._enter("checkpoint")
        with session.clock.part("checkpoint"):
            state.saved, state.final, state.elapsed = state.step, final, self.elapsed()
            metrics = state.metrics if state.evaluated == state.step else {}
            tensors = self.learner.tensors(state) | self.learner.reference.tensors()
            self.saver.save(state, tensors, metrics, final)
        if not final:
            self._enter(self.phase)

    # --- small things ------------------------------------------------------------------------------

    def _apply_knobs(self) -> None:
        """Take over what people want changed, from the next step on."""
        state, step = self.state, self.state.step + 1
        if self.changes is None:
            return
        wanted = self.changes.knobs(step)
        if wanted in (state.knobs, self._refused):
            return
        try:
            spec = with_knobs(self._launched, wanted)
        except ValueError as error:
            self.session.report.alert("warning", "knobs", f"refused: {error}")
            self._refused = wanted
            return
        changes = [
            {"path": path, "old": value_at(self.spec, path), "new": value_at(spec, path)}
            for path in sorted({*state.knobs, *wanted})
            if value_at(self.spec, path) != value_at(spec, path)
        ]
        if state.updates_done and any(one["path"].startswith(AT_A_NEW_BATCH) for one in changes):
            return
        text = ", ".join(f"{one['path']} {one['old']} → {one['new']}" for one in changes)
        self._take(spec)
        state.knobs = wanted
        if changes:
            data = {"step": step, "knobs": wanted, "changes": changes}
            message = f"from step {step}: {text}"
            self.session.report.alert("info", "knobs", message, data=data)
        self._enter(self.phase)

    def _take(self, spec: RunSpec) -> None:
        self.spec = self.learner.spec = spec
        if self.evaluation is not None:
            self.evaluation.spec = spec

    def _asked(self) -> dict[str, int]:
        """Requests that are to be met now; there is nothing to save before the first step."""
        asked = {} if self.changes is None else self.changes.requests()
        return {name: count for name, count in asked.items() if name != "save" or self.state.step}

    def _met(self, asked: dict[str, int]) -> None:
        if self.changes is None or not asked:
            return
        self.changes.met(asked)
        if "evaluate" in asked and self.evaluation is None:
            message = "nothing to evaluate on: data.eval is empty"
            self.session.report.alert("warning", "asked", message)
        done = {"save": "saved", "evaluate": "evaluated"}
        words = " and ".join(done.get(name, name) for name in sorted(asked))
        step = self.state.step
        message = f"{words} at step {step}, as asked"
        self.session.report.alert("info", "asked", message, data={"step": step, "asks": asked})

    def _enter(self, phase: str) -> None:
        report = self.session.report
        report.step, report.total_steps = self.state.step, self.total_steps()
        if self.prefix and phase != self.phase:
            return
        report.status(phase)

    def elapsed(self) -> float:
        """Seconds of training so far, across attempts."""
        return time.monotonic() - self.started

    def _named(self, values: dict[str, float]) -> dict[str, float]:
        return {self.prefix + key: float(value) for key, value in values.items()}

    def _machine(self) -> dict[str, float]:
        values = {"rss_mb": psutil.Process().memory_info().rss / 2**20}
        if self.policy.device.type == "cuda":
            values["gpu_mem_mb"] = torch.cuda.max_memory_allocated() / 2**20
        return values

    def _arithmetic(self, skipped: float, sampled: float) -> float:
        """Operations of this step: 6 per weight and trained token, 2 per sampled one."""
        trained = self.learner.answer_tokens() * (1 - skipped)
        return self.policy.parameter_count() * (6 * trained + 2 * sampled)


def best_metric(spec: RunSpec) -> str:
    """The metric by which the best checkpoints are kept."""
    by_kind = {
        "rollouts": "eval/reward",
        "demonstrations": "eval/loss",
        "pairs": "eval/pair_accuracy",
        "labels": "eval/loss",
        "ratings": "eval/loss",
    }
    return by_kind[spec.objective.learns_from]


def _what_diverged(values: dict[str, float]) -> str:
    names = [key for key, value in values.items() if not math.isfinite(value)]
    return (
        f"{' and '.join(names)} became {values[names[0]]}; lower optimizer.lr or max_grad_norm, "
        "then resume from the newest checkpoint"
    )
