"""Every answer of an evaluation, journalled: drawn by what is asked, scored one by one, never twice.

An attempt goes on behind what earlier ones have journalled. Answers are drawn and written in slices that the
rows alone decide, so that a run that was killed leaves the answers and log-probabilities of one that was not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.answering import ANSWERS, SAMPLES, sampling_digest, sampling_of, scorer_digests
from trainer.engine.evaluate import add_accuracy, by_weight, sampling_at
from trainer.engine.grading import Grade, Grader
from trainer.engine.items import earlier, items_of, slices
from trainer.engine.means import Means
from trainer.engine.progress import SAMPLE_GROUPS
from trainer.engine.readings import SLICE_ANSWERS, room
from trainer.engine.sampler import SAMPLING_FACTOR, Sampled
from trainer.engine.scoring import answers_of
from trainer.engine.seeds import answer_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.engine.dataset import Part
    from trainer.engine.items import Item
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.spec import RunSpec


@dataclass(frozen=True)
class Question:
    """An item, and which of its samples are wanted."""

    item: Item
    indices: list[int]
    problem: str = ""
    """Why none of them can be had."""
    given: Mapping[int, Sampled] = field(default_factory=dict)
    """Answers that are there already and are only to be scored."""

    @property
    def names(self) -> list[tuple[str, int]]:
        """What its answers are called."""
        return [(self.item.digest, index) for index in self.indices]

    @property
    def drawn(self) -> tuple[int, ...]:
        """The numbers of the samples that are to be drawn."""
        if self.problem:
            return ()
        return tuple(index for index in self.indices if index not in self.given)


@dataclass(frozen=True)
class Note:
    """What the metrics need of an answer."""

    tokens: int
    clipped: bool
    problem: str
    values: Mapping[str, float | None]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Note:
        """Of an event of the journal."""
        values = {label: found["value"] for label, found in event["scores"].items()}
        return cls(event["tokens"], event["finish_reason"] == "length", event["problem"], values)

    @property
    def failed(self) -> bool:
        """Whether there is no answer, or one that a scorer could not score."""
        return bool(self.problem) or None in self.values.values()


class Answers:
    """The answers that the rows of a run ask for."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, parts: Sequence[Part]
    ) -> None:
        """Raises ValueError that names the row and what to change."""
        self.session, self.spec, self.policy, self.parts = session, spec, policy, parts
        self._how = sampling_at(spec)
        data = spec.model_dump(mode="json")
        self._like: dict[str, Any] = {
            "sampling": sampling_digest(sampling_of(data), spec.seed),
            "scorers": scorer_digests(data["rewards"]),
        }
        self._grader = Grader(spec.rewards, session.tick)
        self._questions = {
            name: [self._question(item) for item in items]
            for name, items in items_of(parts).items()
        }
        self._notes: dict[tuple[str, int], Note] = {}

    def values(self) -> dict[str, float]:
        """Journal what is missing; then `eval/SOURCE/...` of every source, and `eval/...`, of all answers."""
        report = self.session.report
        for event in earlier(self.session, "answer", **self._like):
            self._notes.setdefault((event["item"], event["index"]), Note.of(event))
        questions = [question for some in self._questions.values() for question in some]
        report.total_steps = sum(len(question.indices) for question in questions)
        for some in slices(questions, SLICE_ANSWERS, lambda question: len(question.indices)):
            self._answer(some)
            report.step += sum(len(question.indices) for question in some)
            self.session.tick()
        self.policy.generator.rest()
        return by_weight(self.parts, self._values_of)

    def _question(self, item: Item) -> Question:
        indices = item.samples(SAMPLES, self.spec.evaluation.samples_per_prompt)
        problem = item.problem
        if item.example is not None:
            length, most = len(item.example.prompt), self._how.max_new_tokens
            if length + most > room(self.policy):
                problem = (
                    f"a prompt of {length} tokens and an answer of up to {most} do not fit the model's "
                    f"{room(self.policy)} positions"
                )
        return Question(item, indices, problem, {} if problem else self._given(item, indices))

    def _given(self, item: Item, indices: Sequence[int]) -> dict[int, Sampled]:
        found: dict[int, Sampled] = {}
        for entry in item.entries(ANSWERS):
            index, tokens = item.index(ANSWERS, entry), item.tokens(ANSWERS, entry)
            if any(token >= self.policy.vocabulary for token in tokens):
                raise ValueError(
                    f"{item.where}: '{ANSWERS}' holds a token beyond the model's {self.policy.vocabulary}; "
                    "give answers of this very model"
                )
            if index in indices:
                reason = "length" if entry.get("finish_reason") == "length" else "stop"
                logps = [float(value) for value in entry.get("logps") or ()]
                found[index] = Sampled(0, tokens, logps, [], reason, [])  # type: ignore[arg-type]
        return found

    # --- one slice -------------------------------------------------------------------------------

    def _answer(self, questions: Sequence[Question]) -> None:
        """Journal the answers of a slice that are missing."""
        names = [name for question in questions for name in question.names]
        missing = {name for name in names if name not in self._notes}
        if not missing:
            return
        # All of it, though some may be there: alone, the rest would differ in the last bit.
        events = [
            {**event, **self._like}
            for event in self._events(questions)
            if (event["item"], event["index"]) in missing
        ]
        report = self.session.report
        report.write_answers("answer", events)
        if report.wants_samples():
            report.write_samples(self._shown(questions, events))
        for event in events:
            self._notes[event["item"], event["index"]] = Note.of(event)

    def _shown(
        self, questions: Sequence[Question], events: Sequence[Mapping[str, Any]]
    ) -> Iterator[dict[str, Any]]:
        """The answers to the first prompts of a slice as samples, which the pages of a run show."""
        groups = {question.item.digest: n for n, question in enumerate(questions[:SAMPLE_GROUPS])}
        for event in events:
            group, note = groups.get(event["item"]), Note.of(event)
            example = None if group is None else questions[group].item.example
            if example is None or note.problem:
                continue
            yield {
                "step": self.session.report.step,
                "prompt_id": example.id,
                "group": group,
                "prompt": example.text,
                "completion": event["text"],
                "token_ids": event["token_ids"],
                "logps": event["logps"],
                "finish_reason": event["finish_reason"],
                "reward": self._total(note),
                "rewards": dict(note.values),
                "advantage": 0.0,
                "policy_version": 0,
            }

    def _events(self, questions: Sequence[Question]) -> Iterator[dict[str, Any]]:
        """The events of a slice, in its order."""
        asked = [question for question in questions if not question.problem]
        drawn = self._drawn(asked)
        sampled = [drawn[name] for question in asked for name in question.names]
        places = [place for place, question in enumerate(asked) for _ in question.indices]
        for answer, place in zip(sampled, places, strict=True):
            answer.prompt = place
        answers = answers_of(
            self.policy,
            self.spec.rewards,
            [question.item.example for question in asked if question.item.example is not None],
            sampled,
            tick=self.session.tick,
            budget=self.spec.batch.tokens_per_microbatch,
        )
        grades = self._grader.grades(answers)
        number = 0
        for question in questions:
            for item, index in question.names:
                event = {"item": item, "index": index, "problem": question.problem}
                if question.problem:
                    yield {**event, **_UNSAID, "scores": self._unscored(question.problem)}
                    continue
                yield {
                    **event,
                    "text": answers[number].text,
                    "token_ids": sampled[number].tokens,
                    "logps": [round(value, 6) for value in sampled[number].logps],
                    "tokens": len(sampled[number].tokens),
                    "finish_reason": sampled[number].finish_reason,
                    "scores": {label: _told(found[number]) for label, found in grades.items()},
                }
                number += 1

    def _unscored(self, problem: str) -> dict[str, Any]:
        grade = Grade(None, f"no answer: {problem}")
        return {reward.label: _told(grade) for reward in self.spec.rewards}

    def _drawn(self, questions: Sequence[Question]) -> dict[tuple[str, int], Sampled]:
        """The answers of a slice, drawn and given, by name."""
        found: dict[tuple[str, int], Sampled] = {}
        alike: dict[tuple[int, ...], list[Question]] = {}
        for question in questions:
            found |= {(question.item.digest, i): given for i, given in question.given.items()}
            if question.drawn:
                alike.setdefault(question.drawn, []).append(question)
        for indices, some in alike.items():
            digests = [question.item.digest for question in some]
            prompts = [q.item.example.prompt for q in some if q.item.example is not None]
            sampled = self.policy.generator.sample(
                prompts,
                answer_keys(self.spec.seed, digests, indices),
                self._how,
                budget=SAMPLING_FACTOR * self.spec.batch.tokens_per_microbatch,
                tick=self.session.tick,
            )
            names = [(digest, index) for digest in digests for index in indices]
            found |= dict(zip(names, sampled, strict=True))
        return found

    # --- metrics ---------------------------------------------------------------------------------

    def _values_of(self, part: Part) -> dict[str, float]:
        means = Means()
        for question in self._questions[part.name]:
            notes = [self._notes[name] for name in question.names]
            for note in notes:
                means.add("failed_ratio", float(note.failed), 1)
                if not note.problem:
                    self._add(means, note)
            correct = [self._correct(note) for note in notes if not note.problem]
            add_accuracy(means, correct, self.spec.evaluation.samples_per_prompt)
        return means.values()

    def _add(self, means: Means, note: Note) -> None:
        means.add("mean_length", note.tokens, 1)
        means.add("clipped_ratio", float(note.clipped), 1)
        for label, value in note.values.items():
            if value is not None:
                means.add(f"rewards/{label}/mean", value, 1)
        total = self._total(note)
        if total is not None:
            means.add("reward", total, 1)

    def _total(self, note: Note) -> float | None:
        """The weighted sum of the scores; None without any."""
        weights = {reward.label: reward.weight for reward in self.spec.rewards}
        known = [weights[k] * value for k, value in note.values.items() if value is not None]
        return sum(known) if known else None

    def _correct(self, note: Note) -> bool | None:
        exact = [note.values[reward.label] for reward in self.spec.rewards if reward.exact]
        known = [value for value in exact if value is not None]
        return any(value == 1 for value in known) if known else None


_UNSAID: dict[str, Any] = {
    "text": "",
    "token_ids": [],
    "logps": [],
    "tokens": 0,
    "finish_reason": "",
}
"""The parts of an answer that there is not."""


def _told(grade: Grade) -> dict[str, Any]:
    return {"value": grade.value, "problem": grade.problem}
