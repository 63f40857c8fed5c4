"""One attempt from its data to its verdict: load, warm up, train or evaluate."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import torch

from trainer.answering import vocabulary_digest
from trainer.engine import checkpoint, randomness
from trainer.engine.changes import Changes, past_of_all
from trainer.engine.dataset import Cursor, dropped_summary, parts_encode, parts_load
from trainer.engine.demonstrations import DemonstrationLearner
from trainer.engine.evaluate import Evaluation
from trainer.engine.failure import Failure, Verdict, bad_input
from trainer.engine.generation import engine_pick, generator_make
from trainer.engine.handing import hand_over
from trainer.engine.judging import judge_pairs
from trainer.engine.labels import LabelLearner
from trainer.engine.load import device_pick, dtype_pick
from trainer.engine.loop import Loop, best_metric
from trainer.engine.measuring import keeps_every_item, measure
from trainer.engine.models import Models
from trainer.engine.online import OnlineLearner
from trainer.engine.pairs import PairLearner
from trainer.engine.playing import play
from trainer.engine.rankings import RankingLearner, outputs_wanted
from trainer.engine.resume import content_check, resume_point, spec_check, spec_edited
from trainer.engine.saving import Saver
from trainer.engine.sharding import optimizer_load, shard
from trainer.engine.start_speed import decode_seconds
from trainer.engine.state import State
from trainer.metrics import WARM_UP_PREFIX
from trainer.named_models import reward_folders_set
from trainer.rundir import write_atomic
from trainer.several import processes_problems
from trainer.spec import spec_hash
from trainer.specfile import spec_load

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.dataset import Part
    from trainer.engine.loop import Learner
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.methods import LearnsFrom, Objective
    from trainer.rundir import RunDir
    from trainer.spec import RunSpec

LEARNERS: dict[LearnsFrom, type[Learner]] = {
    "rollouts": OnlineLearner,
    "demonstrations": DemonstrationLearner,
    "pairs": PairLearner,
    "labels": LabelLearner,
}


def execute(session: Session, spec: RunSpec) -> Verdict:
    """Do what the spec says. Raises Halt or Failure when it ends otherwise."""
    if spec.evaluation.judge is not None:
        return judge_pairs(session, spec, spec.evaluation.judge)
    torch.set_num_threads(spec.resources.cpus)
    if spec.kind == "play":
        return play(session, spec)
    with bad_input():
        device = device_pick(spec.resources.gpus)
        spec = _with_dtype(spec, dtype_pick(spec.model.dtype, device))
        engine, why = engine_pick(spec, device)
        if engine == "vllm" and not session.ranks.alone:
            engine, why = "native", "auto: vLLM samples for one training process only so far"
        spec = _with_engine(spec, engine)
        if spec.online:
            spec = spec.model_copy(update={"correction": spec.makes_good})
        spec_edited(session)
        resumed = _resume_point(session, session.run) if spec.kind == "train" else None
        if resumed is not None:
            spec_check(session, resumed, spec)
        if session.ranks.first:
            session.run.spec_write(spec)
        job = Job(session, spec, device)
    if resumed is None and spec.model.warm_start:
        job.warm_up()
    if spec.model.warm_start:
        # Also later: the reference may be what the warm-up came to.
        hand_over(session.ranks, job.models.warm_run.path)
    with bad_input():
        policy = job.models.policy(resumed)
        session.tick()
        job.encode(policy)
        policy.generator = generator_make(spec, policy, job.probe(), session.tick)
    try:
        _announce(session, spec, policy, job, resumed, why)
        if spec.kind == "evaluate":
            return measure(session, spec, policy, job.eval_parts)
        return job.train(policy, resumed)
    finally:
        policy.generator.close()


def _resume_point(session: Session, folder: RunDir) -> Path | None:
    """The checkpoint to go on from: the first process looks, and removes what is left over."""
    found = resume_point(session, folder) if session.ranks.first else None
    said = session.ranks.told(None if found is None else found.name)
    if said is None:
        return None
    place = folder.checkpoints / said
    hand_over(session.ranks, place)
    return place


def _with_dtype(spec: RunSpec, dtype: str) -> RunSpec:
    return spec.model_copy(update={"model": spec.model.model_copy(update={"dtype": dtype})})


def _with_engine(spec: RunSpec, engine: str) -> RunSpec:
    return spec.model_copy(update={"rollout": spec.rollout.model_copy(update={"engine": engine})})


def _announce(
    session: Session,
    spec: RunSpec,
    policy: Policy,
    job: Job,
    resumed: Path | None,
    engine_why: str,
) -> None:
    """What was found out while loading."""
    weights = sum(parameter.numel() for parameter in policy.model.parameters())
    message = f"{weights / 1e6:.2f} M weights on {policy.device}, {spec.model.dtype}"
    if resumed is not None:
        message += f", from {resumed.name}"
    if not session.ranks.alone:
        message += f"; {session.ranks.size} processes"
        message += ", each with a part of the model" if session.ranks.sharded else ""
    if spec.online:
        message += f"; rollouts by {_placed(spec, policy)} ({engine_why})"
    data: dict[str, Any] = {
        "spec_hash": spec_hash(spec),
        "device": str(policy.device),
        "dtype": spec.model.dtype,
        "threads": torch.get_num_threads(),
        "parameters": weights,
        "rows": {part.name: len(part.examples) for part in job.train_parts},
        "dropped": dropped_summary([*job.train_parts, *job.eval_parts]),
        "shared_prefix": policy.shared_prefix,
        "rollout_engine": policy.generator.name,
        "rollout_engine_why": engine_why,
        "speed": _speed(spec, policy),
        "processes": session.ranks.size,
        "sharding": spec.resources.sharding,
        "rollout_placement": spec.rollout.placement,
        "rollout_replicas": spec.rollout.replicas,
        "resumed_from": resumed.name if resumed else "",
    }
    if spec.kind == "evaluate":
        data["vocabulary"] = vocabulary_digest(policy.tokens)
    session.report.status("load", data=data, message=message)
    for remark in policy.remarks:
        session.report.alert("info", "model", remark)
    for name, reasons in data["dropped"].items():
        text = ", ".join(f"{why}: {count}" for why, count in reasons.items())
        session.report.alert("warning", "rows-dropped", f"{name}: rows left out ({text})")


def _speed(spec: RunSpec, policy: Policy) -> dict[str, float]:
    """What the plan's arithmetic needs: operations a second, weights that a token meets, seconds of a token."""
    found = {"flops": _peak_flops(policy), "weights": float(policy.parameter_count())}
    if (spec.online or spec.kind == "evaluate") and policy.generator.name == "native":
        found["decode_s"] = decode_seconds(policy)
    return found


def _placed(spec: RunSpec, policy: Policy) -> str:
    """Engine and placement in words."""
    if spec.rollout.placement == "colocated":
        return policy.generator.name
    number = spec.rollout.replicas
    processes = "a process of its own" if number == 1 else f"{number} processes of its own"
    return f"{policy.generator.name} in {processes}"


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
        reward_folders_set(session.reward_paths)
        for reward in spec.rewards:
            reward.prepare()
        self.models = Models(
            session,
            spec,
            device,
            warm_spec=self.warm_spec,
            parts=[*self.train_parts, *self.eval_parts, *self.warm_parts],
            outputs=self._outputs(spec, [*self.train_parts, *self.eval_parts]),
            warm_outputs=self._outputs(self.warm_spec, self.warm_parts),
        )
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
        resources = self.spec.resources
        update = {"model": model, "seed": self.spec.seed, "checkpoint": keep}
        warm = recipe.model_copy(update={**update, "resources": resources})
        if resources.world > 1 and (problems := list(processes_problems(warm))):
            raise ValueError(f"model.warm_start: {problems[0]}")
        return warm

    def _outputs(self, spec: RunSpec | None, parts: list[Part]) -> tuple[str, ...]:
        """The scores that the model must end in; none where it ends in a vocabulary."""
        if spec is None or spec.kind != "train":
            return ()
        return outputs_wanted(spec.objective, parts)

    def _parts(self, spec: RunSpec, which: str) -> list[Part]:
        learns_from = spec.objective.learns_from if spec.kind == "train" else "rollouts"
        return parts_load(
            getattr(spec.data, which),
            seed=spec.seed,
            learns_from=learns_from,
            datasets=self.session.datasets,
        )

    # --- data ------------------------------------------------------------------------------------

    def encode(self, policy: Policy) -> None:
        """Encode the rows of training and evaluation."""
        spec, keeps = self.spec, keeps_every_item(self.spec)
        for parts in (self.train_parts, self.eval_parts):
            parts_encode(parts, policy, spec.data, self.learns_from, may_be_empty=keeps)
        if not keeps:
            _check_room(policy, spec, [*self.train_parts, *self.eval_parts])

    def probe(self) -> list[int]:
        """A prompt of this run, by which an engine's weights are checked."""
        prompts = (
            example.prompt
            for part in self.train_parts + self.eval_parts
            for example in part.examples
        )
        return next((prompt for prompt in prompts if len(prompt) > 1), [0, 1])

    # --- work ------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Run the warm-up's recipe, or what is left of it."""
        assert self.warm_spec is not None
        models, spec, ranks = self.models, self.warm_spec, self.session.ranks
        if ranks.told(models.warm_done.exists()):
            return
        with bad_input():
            resumed = _resume_point(self.session, models.warm_run)
            if resumed is not None:
                spec_check(self.session, resumed, spec)
            policy = models.warm_policy(resumed)
            parts_encode(self.warm_parts, policy, spec.data, spec.objective.learns_from)
        loop = self._loop(spec, policy, self.warm_parts, None, resumed, models.warm_run)
        loop.run()
        if ranks.first:
            models.warm_run.path.mkdir(exist_ok=True)
            done = {"step": loop.state.step, "elapsed": loop.elapsed()}
            write_atomic(models.warm_done, json.dumps(done))
        # The others read what the first one has written.
        ranks.wait()

    def train(self, policy: Policy, resumed: Path | None) -> Verdict:
        """Train to the end of the budget."""
        if self.session.ranks.first:
            with bad_input():
                self.models.base_keep(policy)
        loop = self._loop(
            self.spec, policy, self.train_parts, self.eval_parts, resumed, self.session.run
        )
        if resumed is not None:
            loop.saver.announce(resumed)
        if self.warm_spec is not None and resumed is None:
            # budget.max_minutes counts the warm-up too.
            loop.state.elapsed = self.models.warmed()["elapsed"]
        return loop.run()

    def _loop(
        self,
        spec: RunSpec,
        policy: Policy,
        parts: list[Part],
        eval_parts: list[Part] | None,
        resumed: Path | None,
        folder: RunDir,
    ) -> Loop:
        """A training at its first step, or where its checkpoint in `folder` stood."""
        randomness.seed_all(spec.seed)
        warm, ranks = folder is not self.session.run, self.session.ranks
        if ranks.sharded:
            with bad_input():
                shard(policy, ranks)
        cursor = Cursor(parts, spec.curriculum, spec.seed)
        saved = None if resumed is None else checkpoint.read(resumed)
        state = State(visited=cursor.start()) if saved is None else State.from_json(saved.state)
        optimizer = spec.optimizer.build(policy.parameters())
        saver = Saver(
            self.session, spec, policy, optimizer, cursor, parts, folder, best_metric(spec), warm
        )
        saver.start, saver.eval_parts = self.models.start_digest, eval_parts or ()
        if saved is not None:
            saver.start = saved.fingerprint.get("model", {}).get("start", "")
            content_check(saved, saver, state)
        reference = self.models.reference(policy, saver.start, warm=warm)
        changes = None
        if not warm:
            # The orders that it begins with are read when it is made.
            self.session.orders.agree(state.elapsed, 0.0)
            past, done = past_of_all(self.session)
            changes = Changes(self.session.orders, past, done, state.knobs)
        learner = _learner(spec.objective)(self.session, spec, policy, reference, cursor)
        evaluation = None
        if eval_parts:
            evaluation = Evaluation(self.session, spec, policy, eval_parts, learner)
        if saved is not None:
            if ranks.sharded:
                optimizer_load(optimizer, saved.optimizer)
            else:
                optimizer.load_state_dict(saved.optimizer)
            reference.restore(saved.buffers)
            learner.restore(saved.buffers)
            learner.dials = state.dials or learner.dials
            # Last of all: whatever was built above may have drawn.
            randomness.restore(saved.random)
        return Loop(
            session=self.session,
            spec=spec,
            policy=policy,
            optimizer=optimizer,
            learner=learner,
            cursor=cursor,
            evaluation=evaluation,
            state=state,
            saver=saver,
            changes=changes,
            phase="warm-up" if warm else "train",
            prefix=WARM_UP_PREFIX if warm else "",
            peak_flops=ranks.size * _peak_flops(policy),
        )


def _learner(objective: Objective) -> type[Learner]:
    """What supplies the losses of an objective: by the model it needs, then by its rows."""
    if "score-head" in objective.uses:
        return RankingLearner
    return LEARNERS[objective.learns_from]


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
