"""One attempt from its data to its verdict: load, warm up, train or evaluate."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine import checkpoint
from trainer.engine.dataset import (
    Cursor,
    characters_of,
    dropped_summary,
    parts_encode,
    parts_load,
)
from trainer.engine.demonstrations import DemonstrationLearner
from trainer.engine.evaluate import Evaluation
from trainer.engine.failure import Failure, Verdict, bad_input
from trainer.engine.knobs import with_knobs
from trainer.engine.load import (
    device_pick,
    dtype_pick,
    folder_load,
    policy_make,
    starter_build,
)
from trainer.engine.loop import Loop
from trainer.engine.online import OnlineLearner
from trainer.engine.pairs import PairLearner
from trainer.engine.reference import Reference
from trainer.engine.state import State
from trainer.metrics import WARM_UP_PREFIX
from trainer.rundir import RunDir, write_atomic
from trainer.spec import RunSpec, spec_hash
from trainer.specfile import spec_load

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.dataset import Part
    from trainer.engine.loop import Learner
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.methods import LearnsFrom

LEARNERS: dict[LearnsFrom, type[Learner]] = {
    "rollouts": OnlineLearner,
    "demonstrations": DemonstrationLearner,
    "pairs": PairLearner,
}
STARTER = "starter"


def execute(session: Session, spec: RunSpec) -> Verdict:
    """Do what the spec says. Raises Halt or Failure when it ends otherwise."""
    torch.set_num_threads(spec.resources.cpus)
    with bad_input():
        device = device_pick(spec.resources.gpus)
        spec = _with_dtype(spec, dtype_pick(spec.model.dtype, device))
        session.run.spec_write(spec)
        job = Job(session, spec, device)
    resumed = checkpoint.newest(session.run) if spec.kind == "train" else None
    if resumed is None and spec.model.warm_start:
        job.warm_up()
    with bad_input():
        policy = job.policy(resumed)
        session.tick()
        job.encode(policy)
    _announce(session, spec, policy, job, resumed)
    if spec.kind == "evaluate":
        return job.evaluate(policy)
    return job.train(policy, resumed)


def _with_dtype(spec: RunSpec, dtype: str) -> RunSpec:
    return spec.model_copy(update={"model": spec.model.model_copy(update={"dtype": dtype})})


def _announce(
    session: Session, spec: RunSpec, policy: Policy, job: Job, resumed: Path | None
) -> None:
    """What was found out while loading."""
    weights = sum(parameter.numel() for parameter in policy.model.parameters())
    message = f"{weights / 1e6:.2f} M weights on {policy.device}, {spec.model.dtype}"
    if resumed is not None:
        message += f", from {resumed.name}"
    data: dict[str, Any] = {
        "spec_hash": spec_hash(spec),
        "device": str(policy.device),
        "dtype": spec.model.dtype,
        "threads": torch.get_num_threads(),
        "parameters": weights,
        "rows": {part.name: len(part.examples) for part in job.train_parts},
        "dropped": dropped_summary([*job.train_parts, *job.eval_parts]),
        "shared_prefix": policy.shared_prefix,
        "rollout_engine": "native",
        "resumed_from": resumed.name if resumed else "",
    }
    session.report.status("load", data=data, message=message)
    for name, reasons in data["dropped"].items():
        text = ", ".join(f"{why}: {count}" for why, count in reasons.items())
        session.report.alert("warning", "rows-dropped", f"{name}: rows left out ({text})")


class Job:
    """The data and the models of one attempt."""

    def __init__(self, session: Session, spec: RunSpec, device: torch.device) -> None:
        self.session, self.spec, self.device = session, spec, device
        self.warm_spec = self._warm_spec()
        learns_from = spec.objective.learns_from if spec.kind == "train" else "rollouts"
        self.learns_from = learns_from
        self.train_parts = self._parts(spec, "train") if spec.kind == "train" else []
        self.eval_parts = self._parts(spec, "eval")
        self.warm_parts = [] if self.warm_spec is None else self._parts(self.warm_spec, "train")
        if spec.kind == "evaluate" and not spec.rewards:
            raise ValueError("rewards: an evaluation needs at least one reward to score answers by")
        session.tick()

    def _warm_spec(self) -> RunSpec | None:
        """The warm-up's recipe on this run's model and seed; it neither evaluates nor keeps a history."""
        if not self.spec.model.warm_start:
            return None
        recipe = spec_load(self.spec.model.warm_start)
        if recipe.model.warm_start:
            raise ValueError("model.warm_start: the recipe has a warm-up of its own; name that one")
        model = self.spec.model.model_copy(update={"warm_start": ""})
        keep = recipe.checkpoint.model_copy(update={"keep_last": 1, "keep_best": 0})
        return recipe.model_copy(
            update={"model": model, "seed": self.spec.seed, "checkpoint": keep}
        )

    def _parts(self, spec: RunSpec, which: str) -> list[Part]:
        learns_from = spec.objective.learns_from if spec.kind == "train" else "rollouts"
        return parts_load(
            getattr(spec.data, which),
            seed=spec.seed,
            learns_from=learns_from,
            datasets=self.session.datasets,
        )

    # --- models ----------------------------------------------------------------------------------

    @property
    def warm_run(self) -> RunDir:
        """Where the warm-up keeps its checkpoints."""
        return RunDir(self.session.run.path / "warm-up")

    @property
    def warm_done(self) -> Path:
        """Exists once the warm-up is complete; names its last step."""
        return self.warm_run.path / "finished.json"

    def policy(self, resumed: Path | None = None) -> Policy:
        """The model to train: from a checkpoint of this run, or as the run starts."""
        if resumed is not None:
            return self._make(*folder_load(str(resumed), self.spec.model))
        return self.start_policy()

    def start_policy(self) -> Policy:
        """The start model, warmed up where the spec says so."""
        if self.warm_spec is not None:
            folder = self.warm_run.checkpoint(self._warmed()["step"])
            return self._make(*folder_load(str(folder), self.spec.model))
        return self._base()

    def _warmed(self) -> dict[str, Any]:
        """Last step and seconds of the warm-up."""
        done: dict[str, Any] = json.loads(self.warm_done.read_text())
        return done

    def _base(self) -> Policy:
        model, spec = self.spec.model, self.spec
        name = self.session.model_path or model.name
        if name != STARTER:
            if model.options:
                raise ValueError(f"model.options: they shape the starter; {model.name} has a shape")
            return self._make(*folder_load(name, model))
        parts = [*self.train_parts, *self.eval_parts, *self.warm_parts]
        specs = [spec] if self.warm_spec is None else [spec, self.warm_spec]
        texts = [
            str(row[column])
            for part in parts
            for row in part.rows
            for column in ("prompt", "completion", "chosen", "answer")
            if isinstance(row.get(column), str)
        ]
        built = starter_build(model, characters_of(specs, parts), texts, spec.seed)
        return self._make(*built)

    def _make(self, model: Any, tokenizer: Any) -> Policy:
        return policy_make(model, tokenizer, self.device, self.spec.model.dtype)

    def _reference(self) -> Policy:
        name = self.session.reference_path or self.spec.reference.name
        if not name:
            return self.start_policy()
        if name == STARTER:
            return self._base()
        return self._make(*folder_load(name, self.spec.model))

    # --- data ------------------------------------------------------------------------------------

    def encode(self, policy: Policy) -> None:
        """Encode the rows of training and evaluation."""
        spec = self.spec
        for parts in (self.train_parts, self.eval_parts):
            parts_encode(parts, policy, spec.data, self.learns_from)
        _check_room(policy, spec, [*self.train_parts, *self.eval_parts])

    # --- work ------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Run the warm-up's recipe, or what is left of it."""
        assert self.warm_spec is not None
        if self.warm_done.exists():
            return
        with bad_input():
            resumed = checkpoint.newest(self.warm_run)
            policy = (
                self._base()
                if resumed is None
                else self._make(*folder_load(str(resumed), self.spec.model))
            )
            parts_encode(
                self.warm_parts,
                policy,
                self.warm_spec.data,
                self.warm_spec.objective.learns_from,
            )
        loop = self._loop(
            self.warm_spec, policy, self.warm_parts, Reference(self._base), None, resumed
        )
        loop.phase, loop.prefix, loop.checkpoints = "warm-up", WARM_UP_PREFIX, self.warm_run
        loop.run()
        self.warm_run.path.mkdir(exist_ok=True)
        done = {"step": loop.state.step, "elapsed": loop.elapsed()}
        write_atomic(self.warm_done, json.dumps(done))

    def train(self, policy: Policy, resumed: Path | None) -> Verdict:
        """Train to the end of the budget."""
        reference = Reference(self._reference)
        loop = self._loop(self.spec, policy, self.train_parts, reference, self.eval_parts, resumed)
        if self.warm_spec is not None and resumed is None:
            # budget.max_minutes counts the warm-up too.
            loop.state.elapsed = self._warmed()["elapsed"]
        return loop.run()

    def _loop(
        self,
        spec: RunSpec,
        policy: Policy,
        parts: list[Part],
        reference: Reference,
        eval_parts: list[Part] | None,
        resumed: Path | None,
    ) -> Loop:
        # What draws from torch's own generator (dropout, a user's method) is part of the run too.
        torch.manual_seed(spec.seed)
        cursor = Cursor(parts, spec.curriculum, spec.seed)
        state, saved = State(visited=cursor.start()), None
        if resumed is not None:
            saved = checkpoint.read(resumed)
            state = State.from_json(saved.state)
            if state.knobs:
                spec = with_knobs(spec, state.knobs)
        learner = LEARNERS[spec.objective.learns_from](
            self.session, spec, policy, reference, cursor
        )
        optimizer = spec.optimizer.build(policy.parameters())
        if saved is not None:
            optimizer.load_state_dict(saved.optimizer)
            learner.restore(saved.tensors)
        evaluation = None
        if eval_parts:
            pairs = learner if isinstance(learner, PairLearner) else None
            evaluation = Evaluation(self.session, spec, policy, eval_parts, pairs)
        return Loop(
            session=self.session,
            spec=spec,
            policy=policy,
            optimizer=optimizer,
            learner=learner,
            cursor=cursor,
            evaluation=evaluation,
            state=state,
            checkpoints=self.session.run,
            peak_flops=_peak_flops(policy),
        )

    def evaluate(self, policy: Policy) -> Verdict:
        """Measure the model once."""
        report = self.session.report
        report.status("eval")
        evaluation = Evaluation(self.session, self.spec, policy, self.eval_parts, None)
        values = evaluation.values(0)
        report.metrics(0, values)
        return Verdict("finished", "finished", "evaluated")


def _check_room(policy: Policy, spec: RunSpec, parts: list[Part]) -> None:
    room = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    if not room:
        return
    for part in parts:
        longest = max(len(example.prompt) for example in part.examples)
        answers = max((len(ids) for e in part.examples for ids in e.answers), default=0)
        if spec.rewards or spec.online:
            answers = max(answers, spec.rollout.max_new_tokens, spec.evaluation.max_new_tokens)
        if longest + answers > room:
            raise Failure(
                "bad-input",
                f"{part.name}: prompts of up to {longest} tokens and answers of up to {answers} do not fit "
                f"the model's {room} positions; lower data.max_prompt_tokens or rollout.max_new_tokens",
            )


def _peak_flops(policy: Policy) -> float:
    """Operations per second of a large matrix product here: what `mfu` compares with."""
    size = 512 if policy.device.type == "cpu" else 4096
    left = torch.ones(size, size, device=policy.device, dtype=policy.dtype)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        float((left @ left)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
