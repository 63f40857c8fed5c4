"""Teacher forcing: how likely the model finds tokens that it did not write.

Log-probabilities are those of the model's own distribution at a temperature, nothing left out: where the
author's answers were drawn by truncated sampling, the two are not of one kind.
Legend: M tokens that are read, B answers of a micro-batch, A answer tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainer.answering import ANSWERS, sampling_digest, sampling_of, vocabulary_digest
from trainer.engine.chat import Unusable
from trainer.engine.encode import BadRow, answers_encode
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.items import earlier, items_of, slices
from trainer.engine.pieces import pieces
from trainer.engine.sampler import SAMPLING_FACTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.engine.dataset import Example, Part
    from trainer.engine.items import Item
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.spec import RunSpec

SLICE_ANSWERS = 64
"""Answers that are journalled by one write."""
READ_TOKENS = 16_384
"""Padded tokens of one forward pass where nobody says otherwise."""


def token_logps(
    policy: Policy,
    sequences: Sequences,
    *,
    tick: Callable[[], None],
    budget: int = READ_TOKENS,
    temperature: float = 1.0,
) -> list[list[float]]:
    """Log-probability of each token of each answer behind its prompt, in nats."""
    found: list[list[float]] = [[] for _ in sequences.answers]
    wanted = [index for index, answer in enumerate(sequences.answers) if answer]
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad():
            for rows in micro_batches(
                sequences, wanted, budget=budget, shared=policy.shared_prefix, packed=True
            ):
                tick()
                chosen = [answer for row in rows for answer in row.answers]
                scores = token_scores(policy, sequences, chosen, rows=rows, temperature=temperature)
                logp_BA = scores.scattered(scores.logp_M).tolist()
                for answer, logps in zip(chosen, logp_BA, strict=True):
                    found[answer] = logps[: len(sequences.answers[answer])]
    finally:
        policy.model.train(was_training)
    return found


def columns_read(
    policy: Policy,
    examples: Sequence[Example],
    columns: Sequence[str],
    *,
    tick: Callable[[], None],
    budget: int = READ_TOKENS,
) -> list[dict[str, list[float]]]:
    """For each example the log-probabilities of its columns' texts as answers, the end token included.

    A column that an example lacks, or whose text cannot be encoded or does not fit the model, is left out.
    """
    found: list[dict[str, list[float]]] = [{} for _ in examples]
    for column in columns:
        having = [
            index
            for index, example in enumerate(examples)
            if isinstance(example.row.get(column), (str, int, float))
        ]
        texts = [str(examples[index].row[column]) for index in having]
        prompts = [examples[index].row["prompt"] for index in having]
        encoded = zip(having, _encoded(policy, prompts, texts), strict=True)
        fitting = {
            index: ids
            for index, ids in encoded
            if ids is not None and len(examples[index].prompt) + len(ids) <= room(policy)
        }
        sequences = Sequences(
            [examples[index].prompt for index in fitting],
            list(fitting.values()),
            list(range(len(fitting))),
        )
        for index, logps in zip(
            fitting, token_logps(policy, sequences, tick=tick, budget=budget), strict=True
        ):
            found[index][column] = logps
    return found


def _encoded(
    policy: Policy, prompts: Sequence[Any], texts: Sequence[str]
) -> list[list[int] | None]:
    """Token ids of texts behind their prompts; None where the model's template takes no such answer."""
    try:
        found = answers_encode(policy, prompts, texts)
    except BadRow:
        if len(texts) == 1:
            return [None]
        alone = zip(prompts, texts, strict=True)
        return [_encoded(policy, [prompt], [text])[0] for prompt, text in alone]
    return [None if isinstance(ids, Unusable) else ids for ids in found]


def room(policy: Policy) -> int:
    """How many positions the model has."""
    config = policy.model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None) or 1 << 62


@dataclass(frozen=True)
class _Task:
    """One answer of another model."""

    item: Item
    index: int
    author: str
    tokens: list[int]
    problem: str

    @property
    def name(self) -> tuple[str, int, str]:
        return self.item.digest, self.index, self.author


class Readings:
    """The answers of other models that the rows of a run carry."""

    def __init__(
        self, session: Session, spec: RunSpec, policy: Policy, parts: Sequence[Part]
    ) -> None:
        """Raises ValueError that names the row and what to change."""
        self.session, self.spec, self.policy = session, spec, policy
        self._vocabulary = vocabulary_digest(policy.tokens)
        self._sampling = sampling_digest(sampling_of(spec.model_dump(mode="json")), spec.seed)
        items = (item for some in items_of(parts).values() for item in some)
        found = {task.name: task for item in items for task in self._tasks_of(item)}
        self._tasks = list(found.values())
        if not self._tasks:
            raise ValueError(f"evaluation.readings: no row carries answers to read in '{ANSWERS}'")

    def read(self) -> None:
        """Journal a reading of each answer that no earlier attempt has read."""
        report, like = self.session.report, {"sampling": self._sampling}
        done = {
            (event["item"], event["index"], event["model"])
            for event in earlier(self.session, "reading", **like)
        }
        report.total_steps = len(self._tasks)
        for some in slices(self._tasks, SLICE_ANSWERS):
            # A slice that was begun is read as a whole again: alone, its rest would differ in the last bit.
            missing = [task for task in some if task.name not in done]
            if missing:
                events = dict(zip((task.name for task in some), self._events(some), strict=True))
                report.write_answers("reading", [events[task.name] | like for task in missing])
            report.step += len(some)
            self.session.tick()

    def _events(self, tasks: Sequence[_Task]) -> Iterator[dict[str, Any]]:
        readable = [task for task in tasks if not task.problem]
        prompts = {task.item.digest: task.item.example for task in readable}
        order = {digest: place for place, digest in enumerate(prompts)}
        sequences = Sequences(
            [example.prompt for example in prompts.values() if example is not None],
            [task.tokens for task in readable],
            [order[task.item.digest] for task in readable],
        )
        logps = token_logps(
            self.policy,
            sequences,
            tick=self.session.tick,
            budget=SAMPLING_FACTOR * self.spec.batch.tokens_per_microbatch,
            temperature=self.spec.evaluation.temperature or 1.0,
        )
        read = dict(zip((task.name for task in readable), logps, strict=True))
        texts = {task.name: pieces(self.policy, task.tokens) for task in readable}
        for task in tasks:
            yield {
                "item": task.item.digest,
                "index": task.index,
                "model": task.author,
                "logps": [round(value, 6) for value in read.get(task.name, [])],
                "pieces": texts.get(task.name, []),
                "problem": task.problem,
            }

    def _tasks_of(self, item: Item) -> Iterator[_Task]:
        for entry in item.entries(ANSWERS):
            index, tokens = item.index(ANSWERS, entry), item.tokens(ANSWERS, entry)
            author = item.text(ANSWERS, entry, "model")
            vocabulary = item.text(ANSWERS, entry, "vocabulary")
            yield _Task(item, index, author, tokens, self._problem(item, tokens, vocabulary))

    def _problem(self, item: Item, tokens: list[int], vocabulary: str) -> str:
        """Why an answer cannot be read, or ""."""
        if vocabulary != self._vocabulary:
            return "its author has another vocabulary: the same token ids mean other texts here"
        if item.example is None:
            return item.problem
        if any(token >= self.policy.vocabulary for token in tokens):
            return f"it holds a token beyond the model's {self.policy.vocabulary}"
        length = len(item.example.prompt) + len(tokens)
        if length > room(self.policy):
            return f"prompt and answer of {length} tokens do not fit the model's {room(self.policy)} positions"
        return ""
