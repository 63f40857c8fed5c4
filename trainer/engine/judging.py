"""Which of two answers is better, by a judge: no model is loaded, the rows carry the answers.

Each pair is asked about in both orders where the judge swaps, and as often as it repeats; each time is a
judgement of its own, journalled at once and never asked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.answering import PAIRS, judge_digest
from trainer.engine.dataset import parts_load
from trainer.engine.encode import text_of
from trainer.engine.failure import Failure, Halt, Verdict, bad_input, verdict_of
from trainer.engine.items import earlier, items_of, slices
from trainer.engine.patience import Patience, TimedOut
from trainer.methods import Unavailable
from trainer.rulings import Pair, Ruling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.engine.items import Item
    from trainer.engine.session import Session
    from trainer.rulings import Evaluator
    from trainer.spec import RunSpec


@dataclass(frozen=True)
class Question:
    """One pair in one order, for one time."""

    item: Item
    index: int
    left: str
    right: str
    """Names of the two sides."""
    pair: Pair

    @property
    def name(self) -> tuple[str, int, str, str, int]:
        return self.item.digest, self.index, self.left, self.right, self.pair.repeat

    def event(self, ruling: Ruling) -> dict[str, Any]:
        """The judgement as the journal holds it."""
        item, index, left, right, repeat = self.name
        where = {"item": item, "index": index, "left": left, "right": right, "repeat": repeat}
        said = {"outcome": ruling.outcome, "problem": ruling.problem, "said": ruling.said}
        return {**where, **said}


def judge_pairs(session: Session, spec: RunSpec, judge: Evaluator) -> Verdict:
    """Journal what the judge says of every pair that no earlier attempt has asked about.

    Raises Failure when there is nothing to judge, or the judge cannot be reached.
    """
    with bad_input():
        questions = _questions(session, spec, judge)
        judge.prepare()
    report, like = session.report, {"judge": judge_digest(judge.model_dump(mode="json"))}
    report.total_steps = len(questions)
    report.status("eval", message=f"{len(questions)} judgements")
    done = {_name(event) for event in earlier(session, "judgement", **like)}
    left = [question for question in questions if question.name not in done]
    report.step = len(questions) - len(left)
    with Patience(session.tick) as patience:
        for some in slices(left, judge.at_once):
            session.tick()
            rulings = _rulings(patience, judge, [question.pair for question in some])
            told = zip(some, rulings, strict=True)
            report.write_answers(
                "judgement", [question.event(ruling) | like for question, ruling in told]
            )
            report.step += len(some)
    return Verdict("finished", "finished", "judged")


def _questions(session: Session, spec: RunSpec, judge: Evaluator) -> list[Question]:
    parts = parts_load(
        spec.data.eval, seed=spec.seed, learns_from="rollouts", datasets=session.datasets
    )
    items = (item for some in items_of(parts, encoded=False).values() for item in some)
    found = {question.name: question for item in items for question in _of_item(item, judge)}
    if not found:
        raise ValueError(f"evaluation.judge: no row carries pairs to judge in '{PAIRS}'")
    return list(found.values())


def _of_item(item: Item, judge: Evaluator) -> Iterator[Question]:
    prompt = text_of(item.row["prompt"])
    for entry in item.entries(PAIRS):
        index = item.index(PAIRS, entry)
        names = (item.text(PAIRS, entry, "left"), item.text(PAIRS, entry, "right"))
        texts = (item.text(PAIRS, entry, "left_text"), item.text(PAIRS, entry, "right_text"))
        said = {(item.text(PAIRS, told, "left"), told.get("repeat")) for told in _said(item, entry)}
        for one, other in ((0, 1), (1, 0))[: 2 if judge.swap else 1]:
            for repeat in range(judge.repeats):
                if (names[one], repeat) in said:
                    continue
                pair = Pair(prompt, texts[one], texts[other], item.row, repeat)
                yield Question(item, index, names[one], names[other], pair)


def _said(item: Item, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What of a pair was judged before: the side that was shown on the left, and which time it was."""
    found = entry.get("said", [])
    if not isinstance(found, list) or not all(isinstance(told, dict) for told in found):
        raise ValueError(f"{item.where}: '{PAIRS}': 'said' must be a list of objects")
    return found


def _rulings(patience: Patience, judge: Evaluator, pairs: Sequence[Pair]) -> Sequence[Ruling]:
    """What the judge says; what it cannot say of these pairs is their problem, not the run's."""
    try:
        with patience.wait("evaluation.judge", judge.time_limit):
            return judge.rulings(pairs)
    except TimedOut as error:
        problem = f"took longer than {judge.time_limit:g} s ({error})"
    except (Halt, Failure, MemoryError):
        raise
    except Unavailable as error:
        raise Failure("bad-input", f"evaluation.judge: {error}") from error
    except Exception as error:
        verdict = verdict_of(error)
        if verdict.cause != "crash":
            raise
        problem = f"raised {verdict.message}"
    return [Ruling("", problem)] * len(pairs)


def _name(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(event[key] for key in ("item", "index", "left", "right", "repeat"))
