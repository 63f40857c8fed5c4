"""Comparisons that were made elsewhere: a file with questions, and what several models answered.

Two shapes are read. As in GSM8K's example solutions, one row a question: {"question", "ground_truth",
MODEL: {"is_correct", "solution"}, ...}. Or one row an answer: {"prompt", "arm", "text", "scores": {NAME: number}},
with "index" where an arm has several answers to a prompt, and any other columns of the prompt.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import transaction

from orchestrator.models import Answer, Arm, Comparison, Item, Score
from orchestrator.models.comparison import ARMS_MOST
from orchestrator.selectors.comparisons import DIGEST
from orchestrator.services.comparison_items import PROMPTS_MOST, Prompt, prompt_of
from orchestrator.services.comparison_orders import ANSWERS_MOST, ARMS_LEAST, name_checked
from orchestrator.services.datasets import TooLarge, too_large_words
from orchestrator.services.event_fields import text_storable
from orchestrator.uploads import upload_most
from trainer.answering import sampling_digest
from trainer.tables import ending_of, table_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.models import User

MARK, SOLUTION, CORRECT = "is_correct", "solution", "correct"
IMPORTED = "imported"
SAMPLES_MOST = 256
SCORERS_MOST = 16
PROBLEM_MOST = 500
BATCH = 2000


@dataclass
class Given:
    """One answer of the file."""

    text: str
    scores: dict[str, float | None]
    problem: str = ""
    tokens: int = 0


@dataclass
class Read:
    """What a file holds."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    answers: dict[tuple[str, str, int], Given] = field(default_factory=dict)
    """By arm, prompt's digest and index."""
    arms: dict[str, None] = field(default_factory=dict)
    scorers: dict[str, None] = field(default_factory=dict)


def comparison_import(*, owner: User, file: Any, name: str = "") -> Comparison:
    """Make a comparison of an uploaded file (Django's UploadedFile).

    Raises ValueError with a sentence that names the row and the field; then nothing is stored.
    """
    filename = (file.name or "file").replace("\\", "/").rpartition("/")[2][-200:]
    sha256, read = _file_read(file, filename)
    _checked(read)
    samples = 1 + max(index for _, _, index in read.answers)
    scorers = [
        {"type": IMPORTED, "name": label, DIGEST: _digest("scorer", label)}
        for label in read.scorers
    ]
    with transaction.atomic():
        comparison = Comparison.objects.create(
            name=name_checked(name) or name_checked(filename),
            owner=owner,
            imported=True,
            prompts=[{"source": filename, "sha256": sha256}],
            sampling={"samples": samples},
            scorers=scorers,
        )
        Item.objects.bulk_create(
            [
                Item(comparison=comparison, number=number, **vars(one))
                for number, one in enumerate(read.prompts.values(), start=1)
            ],
            batch_size=BATCH,
        )
        digests = {arm: _digest("arm", sha256, arm) for arm in read.arms}
        Arm.objects.bulk_create(
            [
                Arm(comparison=comparison, position=place, name=arm, digest=digests[arm])
                for place, arm in enumerate(read.arms)
            ]
        )
        _answers_store(read, digests, {one["name"]: one[DIGEST] for one in scorers}, samples)
    return comparison


def _file_read(file: Any, filename: str) -> tuple[str, Read]:
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryDirectory(prefix="anneal-import-") as folder:
        path = Path(folder) / f"rows{ending_of(filename)}"
        with path.open("wb") as target:
            for piece in file.chunks():
                size += len(piece)
                if size > upload_most():
                    raise TooLarge(too_large_words(filename))
                digest.update(piece)
                target.write(piece)
        try:
            return digest.hexdigest(), _rows_read(path)
        except ValueError as error:
            # People know their file's name, not where we read it.
            raise ValueError(text_storable(str(error).replace(str(path), filename))) from error


def _rows_read(path: Path) -> Read:
    read = Read()
    for number, row in enumerate(table_rows(path, most_bytes=8 * upload_most()), start=1):
        try:
            if "arm" in row:
                _answer_read(read, row)
            else:
                _question_read(read, row)
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
        if len(read.prompts) > PROMPTS_MOST or len(read.answers) > ANSWERS_MOST:
            raise ValueError(
                f"row {number}: more than {PROMPTS_MOST:,} prompts or {ANSWERS_MOST:,} answers"
            )
    return read


def _question_read(read: Read, row: Mapping[str, Any]) -> None:
    """A row with one column for each model."""
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("question: is missing or no text; or name an arm a row, in a column 'arm'")
    models = {
        str(key): value for key, value in row.items() if isinstance(value, dict) and MARK in value
    }
    if not models:
        raise ValueError(
            f"no column holds an object with '{MARK}', such as {{'{MARK}': true, '{SOLUTION}': '…'}}"
        )
    kept: dict[str, Any] = {"prompt": question}
    if isinstance(row.get("ground_truth"), str):
        kept["answer"] = row["ground_truth"]
    prompt = _prompt_add(read, kept)
    read.scorers[CORRECT] = None
    for model, value in models.items():
        mark = value[MARK]
        if mark is not None and not isinstance(mark, bool):
            raise ValueError(f"{model}.{MARK}: {str(mark)[:40]} is neither true, false nor null")
        text = value.get(SOLUTION)
        given = Given(
            text=text if isinstance(text, str) else "",
            scores={CORRECT: None if mark is None else float(mark)},
            problem="no solution" if mark is None else "",
        )
        _answer_add(read, model, prompt, 0, given)


def _answer_read(read: Read, row: Mapping[str, Any]) -> None:
    """A row that is one answer."""
    kept = {key: value for key, value in row.items() if key not in ANSWER_COLUMNS}
    if kept.get("prompt") in (None, "", []):
        raise ValueError("prompt: is missing or empty")
    arm, index, scores = row["arm"], row.get("index", 0), row.get("scores")
    if not isinstance(arm, str) or not name_checked(arm):
        raise ValueError("arm: must be the name of the model that answered")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < SAMPLES_MOST:
        raise ValueError(f"index: must be a whole number from 0 to {SAMPLES_MOST - 1}")
    if not isinstance(scores, dict) or not scores:
        raise ValueError('scores: must be an object such as {"correct": 1}')
    values: dict[str, float | None] = {}
    for label, value in scores.items():
        if value is not None and not isinstance(value, (bool, int, float)):
            raise ValueError(f"scores.{str(label)[:40]}: must be a number, true, false or null")
        if value is not None and not -1e300 < float(value) < 1e300:
            raise ValueError(f"scores.{str(label)[:40]}: must be finite; null is for what failed")
        values[str(label)[:64]] = None if value is None else float(value)
    text = row.get("text", "")
    if not isinstance(text, str):
        raise ValueError("text: must be the answer's text")
    read.scorers |= dict.fromkeys(values)
    tokens = row.get("tokens", 0)
    problem = row.get("problem", "")
    given = Given(
        text=text,
        scores=values,
        problem=problem[:PROBLEM_MOST] if isinstance(problem, str) else "",
        tokens=tokens if isinstance(tokens, int) and 0 < tokens < 2**31 else 0,
    )
    _answer_add(read, name_checked(arm), _prompt_add(read, kept), index, given)


ANSWER_COLUMNS = frozenset({"arm", "index", "text", "scores", "problem", "tokens"})
"""Columns of a row that is one answer which are no part of its prompt."""


def _prompt_add(read: Read, row: dict[str, Any]) -> str:
    prompt = prompt_of(row, "")
    read.prompts.setdefault(prompt.digest, prompt)
    return prompt.digest


def _answer_add(read: Read, arm: str, prompt: str, index: int, given: Given) -> None:
    name = name_checked(arm)
    if not name:
        raise ValueError("arm: must be the name of the model that answered")
    key = (name, prompt, index)
    if key in read.answers:
        raise ValueError(
            f"{name} answers this prompt twice as number {index}; give each answer an index of its own"
        )
    read.arms[name] = None
    read.answers[key] = given


def _checked(read: Read) -> None:
    if not read.answers:
        raise ValueError("the file holds no rows")
    if not ARMS_LEAST <= len(read.arms) <= ARMS_MOST:
        raise ValueError(
            f"the file has answers of {len(read.arms)} models ({', '.join(list(read.arms)[:8])}); a comparison "
            f"has {ARMS_LEAST} to {ARMS_MOST}"
        )
    if len(read.scorers) > SCORERS_MOST:
        raise ValueError(
            f"scores: {len(read.scorers)} different names; {SCORERS_MOST} are the most"
        )


def _answers_store(read: Read, arms: dict[str, str], scorers: dict[str, str], samples: int) -> None:
    """Every answer, and a failed one where a model has none: that is missing for good."""
    sampling = sampling_digest({"samples": samples}, 0)
    rows, scores = [], []
    for arm, digest in arms.items():
        for prompt in read.prompts:
            for index in range(samples):
                given = read.answers.get((arm, prompt, index)) or Given("", {}, "not in the file")
                row = Answer(
                    model=digest,
                    item=prompt,
                    sampling=sampling,
                    index=index,
                    text=text_storable(given.text),
                    tokens=given.tokens,
                    problem=text_storable(given.problem),
                )
                rows.append(row)
                scores.append((row, given))
    Answer.objects.bulk_create(rows, ignore_conflicts=True, batch_size=BATCH)
    keys = Answer.objects.filter(model__in=arms.values(), sampling=sampling)
    stored = {
        (one[1], one[2], one[3]): one[0] for one in keys.values_list("pk", "model", "item", "index")
    }
    Score.objects.bulk_create(
        [
            Score(
                answer_id=stored[row.model, row.item, row.index],
                scorer=scorer,
                value=given.scores.get(label),
                problem="" if given.scores.get(label) is not None else given.problem or "no score",
            )
            for row, given in scores
            for label, scorer in scorers.items()
        ],
        ignore_conflicts=True,
        batch_size=BATCH,
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join((IMPORTED, *parts)).encode()).hexdigest()
