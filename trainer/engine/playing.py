"""A playground at work: two or three models in memory, prompts as they come, each answered once.

Prompts lie in `requests.json`, which ship replaces; answers go to the samples journal, all of a prompt by one
write. What an attempt that was killed has journalled is not said again: draws depend on seed, prompt and number
of the answer alone, so that the rest is what it would have been.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from trainer.answering import item_digest, vocabulary_digest
from trainer.engine.adapted import is_adapted, merged
from trainer.engine.blending import blended, parts_of, vocabularies_check
from trainer.engine.encode import BadRow, answer_text, prompts_encode
from trainer.engine.failure import Verdict, bad_input
from trainer.engine.items import earlier
from trainer.engine.load import device_pick, dtype_pick, folder_load, policy_make
from trainer.engine.packing import Sequences
from trainer.engine.pieces import pieces
from trainer.engine.readings import room, token_logps
from trainer.engine.sampler import SAMPLING_FACTOR, Sampling, sample
from trainer.engine.scorer import is_scorer
from trainer.engine.seeds import answer_keys
from trainer.play import READERS, Question
from trainer.problems import problems_of
from trainer.spec import spec_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampled
    from trainer.engine.session import Session
    from trainer.spec import RunSpec

LOOK_EVERY = 0.05
"""Seconds between looks at what is asked."""
NAMES = ("a", "b", "base")
"""What the models of a playground are called, in the order of `play.models`."""

Name = tuple[int, str, int]
"""Request, voice, number of the answer."""


def play(session: Session, spec: RunSpec) -> Verdict:
    """Answer until nobody has asked for `play.idle_minutes`. Raises Halt, or Failure for unfit models."""
    with bad_input():
        device = device_pick(spec.resources.gpus)
        dtype = dtype_pick(spec.model.dtype, device)
        spec = spec.model_copy(update={"model": spec.model.model_copy(update={"dtype": dtype})})
        session.run.spec_write(spec)
        models: dict[str, Policy] = {}
        for number, name in enumerate(spec.play.models):
            models[NAMES[number]] = _load(session, spec, number, name, device)
            session.tick()
        vocabularies_check(models)
    playground = Playground(session, spec, models)
    _announce(session, spec, models, device)
    session.report.status("play", message="waits for prompts")
    return playground.stay()


def _load(session: Session, spec: RunSpec, number: int, name: str, device: torch.device) -> Policy:
    place = session.play_paths.get(name)
    try:
        model, tokenizer = folder_load(str(place or name), spec.model)
        if is_scorer(model):
            raise ValueError(f"{name} is a reward model, it ends in scores and cannot write")
        if is_adapted(model):
            model = merged(model)
        return policy_make(model, tokenizer, device, spec.model.dtype)
    except ValueError as error:
        said = (
            str(error).removeprefix("model.name: ").replace("--model-path", f"--play-path {name}=")
        )
        raise ValueError(f"play.models.{number}: {said}") from error


def _announce(
    session: Session, spec: RunSpec, models: dict[str, Policy], device: torch.device
) -> None:
    weights = sum(p.numel() for policy in models.values() for p in policy.model.parameters())
    data = {
        "spec_hash": spec_hash(spec),
        "device": str(device),
        "dtype": spec.model.dtype,
        "threads": torch.get_num_threads(),
        "parameters": weights,
        "vocabulary": vocabulary_digest(models["a"].tokens),
    }
    message = f"{len(models)} models, {weights / 1e6:.2f} M weights on {device}, {spec.model.dtype}"
    session.report.status("load", data=data, message=message)


class Requests:
    """Reads `requests.json` when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self._last: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """What is asked and was not answered when the file was written; [] while there is none."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._last
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            self._last = json.loads(self._path.read_text())["requests"]
            self._stamp = stamp
        return self._last


class Playground:
    """The models, and what was answered so far."""

    def __init__(self, session: Session, spec: RunSpec, models: dict[str, Policy]) -> None:
        self.session, self.spec, self.models = session, spec, models
        self._requests = Requests(session.attempt.requests)
        self._said: set[Name] = {
            (event["request"], event["voice"], event["index"])
            for event in earlier(session, "played")
        }
        self._done: set[int] = set()
        """Requests that were looked at and need no more."""

    def stay(self) -> Verdict:
        """Answer what comes; returns when nothing came for long enough."""
        minutes = self.spec.play.idle_minutes
        busy = time.monotonic()
        while True:
            self.session.tick()
            if self.turn():
                busy = time.monotonic()
            elif time.monotonic() - busy >= 60 * minutes:
                return Verdict("finished", "budget", f"nobody has asked for {minutes:g} minutes")
            else:
                time.sleep(LOOK_EVERY)

    def turn(self) -> bool:
        """Answer the first prompt that was not; whether there was one."""
        for raw in self._requests.read():
            if raw["id"] not in self._done:
                self._answer(int(raw["id"]), raw)
                self._done.add(raw["id"])
                self.session.report.step = len(self._done)
                return True
        return False

    def _answer(self, request: int, raw: dict[str, Any]) -> None:
        """Journal the answers to a prompt that are missing, by one write."""
        asked = {key: value for key, value in raw.items() if key != "id"}
        try:
            question = Question.model_validate(asked)
        except ValidationError as error:
            # Whoever wrote it checks it by the same rules: nothing was asked here that could be answered.
            self.session.report.alert(
                "error", "request-unreadable", f"request {request}: {problems_of(error)[0]}"
            )
            return
        names = [(request, voice, i) for voice in question.voices for i in range(question.samples)]
        if all(name in self._said for name in names):
            return
        # All of them, though some may be there: alone, the rest would differ in the last bit.
        events = [
            event for voice in question.voices for event in self._events(request, voice, question)
        ]
        told = [(event["request"], event["voice"], event["index"]) for event in events]
        missing = [
            event for event, name in zip(events, told, strict=True) if name not in self._said
        ]
        self.session.report.write_answers("played", missing)
        self._said.update(told)

    def _events(self, request: int, voice: str, question: Question) -> Iterator[dict[str, Any]]:
        """What a voice says; where it cannot, that is its problem and nobody else's."""
        try:
            policy, prompt = self._voice(voice, question)
            answers = self._drawn(policy, prompt, question)
        except ValueError as error:
            for index in range(question.samples):
                yield {
                    **{
                        "request": request,
                        "voice": voice,
                        "index": index,
                        "text": "",
                        "token_ids": [],
                    },
                    **{
                        "pieces": [],
                        "logps": [],
                        "finish_reason": "",
                        "problem": str(error),
                        "readings": {},
                    },
                }
            return
        readings = self._readings(question, [answer.tokens for answer in answers])
        for index, answer in enumerate(answers):
            yield {
                "request": request,
                "voice": voice,
                "index": index,
                "text": answer_text(policy, answer.tokens),
                "token_ids": answer.tokens,
                "pieces": pieces(policy, answer.tokens),
                "logps": [round(value, 6) for value in answer.logps],
                "finish_reason": answer.finish_reason,
                "problem": "",
                "readings": {name: found[index] for name, found in readings.items()},
            }

    def _voice(self, voice: str, question: Question) -> tuple[Policy, list[int]]:
        """Who speaks, and the prompt as it reads it. Raises ValueError."""
        if voice != "blend":
            if voice not in self.models:
                raise ValueError("voices: this playground has no third model")
            return self.models[voice], self._prompt(self.models[voice], question)
        assert question.blend is not None
        parts = parts_of(question.blend, self.models)
        prompts = [self._prompt(part.policy, question) for part in parts]
        if any(prompt != prompts[0] for prompt in prompts):
            raise ValueError(
                "the models spell this prompt in different tokens (by their chat templates or first tokens), so "
                "they cannot answer it together; send it as plain text, or blend other models"
            )
        return blended(parts), prompts[0]

    def _prompt(self, policy: Policy, question: Question) -> list[int]:
        try:
            (prompt,) = prompts_encode(policy, [question.given])
        except BadRow as error:
            raise ValueError(str(error)) from error
        if not prompt:
            raise ValueError("the prompt has no tokens; write something")
        length, most = len(prompt), question.max_new_tokens
        if length + most > room(policy):
            raise ValueError(
                f"a prompt of {length} tokens and an answer of up to {most} do not fit the model's "
                f"{room(policy)} positions; shorten the prompt, or lower max_new_tokens"
            )
        return prompt

    def _drawn(self, policy: Policy, prompt: list[int], question: Question) -> list[Sampled]:
        # The item's digest as an evaluation has it: the same seed gives the same answers here and there.
        item = item_digest({"prompt": question.given})
        how = Sampling(
            question.max_new_tokens,
            question.temperature,
            top_p=question.top_p,
            top_k=question.top_k,
            min_p=question.min_p,
        )
        return sample(
            policy,
            [prompt],
            answer_keys(question.seed, [item], range(question.samples)),
            how,
            budget=SAMPLING_FACTOR * self.spec.batch.tokens_per_microbatch,
            tick=self.session.tick,
        )

    def _readings(
        self, question: Question, answers: Sequence[list[int]]
    ) -> dict[str, list[list[float]]]:
        """Log-probability of each token under each of the two models, at a temperature of 1 and nothing left out.

        A model that cannot read the prompt or a token of the answers has none.
        """
        found: dict[str, list[list[float]]] = {}
        for name in READERS:
            policy = self.models[name]
            if any(token >= policy.vocabulary for tokens in answers for token in tokens):
                continue
            try:
                prompt = self._prompt(policy, question)
            except ValueError:
                continue
            logps = token_logps(
                policy,
                Sequences([prompt], list(answers), [0] * len(answers)),
                tick=self.session.tick,
                budget=SAMPLING_FACTOR * self.spec.batch.tokens_per_microbatch,
            )
            found[name] = [[round(value, 6) for value in some] for some in logps]
        return found
