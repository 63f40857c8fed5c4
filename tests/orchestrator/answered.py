"""Comparisons for tests: models and prompts made on the spot, answers that arrive as a node would bring them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import (
    Answer,
    Arm,
    ArmRun,
    Attempt,
    Checkpoint,
    Comparison,
    Item,
    Run,
    Score,
    State,
)
from orchestrator.selectors.comparisons import sampling_key, scorers_of
from orchestrator.services.comparison_import import comparison_import
from orchestrator.services.datasets import dataset_upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.models import Dataset, User

ROWS = [{"prompt": f"{number} + 1 = ", "answer": str(number + 1)} for number in range(12)]
EXACT = {"type": "exact-match"}
MARKS = Path(__file__).parents[1] / "data" / "gsm8k_marks.txt"
"""Who of four real models solved which of GSM8K's 1,319 test problems (MIT, licence beside it)."""


def checkpoint_make(owner: User, name: str = "r", step: int = 10, **spec: Any) -> Checkpoint:
    """A kept checkpoint of a run that has ended."""
    run = Run.objects.create(
        name=name, owner=owner, attempt=1, process="exited", state=State.FINISHED,
        spec={"kind": "train", "name": name, "seed": 0, "model": {"name": "starter"}} | spec,
    )  # fmt: skip
    Attempt.objects.create(run=run, number=1)
    return checkpoint_add(run, step)


def checkpoint_add(run: Run, step: int) -> Checkpoint:
    """Another checkpoint of the run."""
    sha256 = f"{run.pk}{step}".encode().hex().ljust(64, "0")[:64]
    return Checkpoint.objects.create(
        run=run, attempt=1, step=step, path=f"checkpoints/step-{step}", sha256=sha256
    )


def dataset_make(owner: User, rows: Iterable[Mapping[str, Any]] = ROWS, name: str = "d") -> Dataset:
    """An uploaded dataset."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return dataset_upload(
        owner=owner, file=SimpleUploadedFile("rows.jsonl", text.encode()), name=name
    )


def answers_put(
    arm: Arm, solves: Callable[[Item, int], float | None], words: str = "", samples: int = 1
) -> None:
    """The answers of an arm, scored by every scorer alike; None fails for good."""
    comparison = arm.comparison
    for item in comparison.items.all():
        for index in range(samples):
            value = solves(item, index)
            text = f"{words}{item.row.get('answer', '')}" if value else f"{words}nothing"
            answer, _ = Answer.objects.get_or_create(
                model=arm.digest,
                item=item.digest,
                sampling=sampling_key(comparison),
                index=index,
                defaults={
                    "text": text,
                    "token_ids": [ord(letter) for letter in text],
                    "logps": [-0.5] * len(text),
                    "tokens": len(text),
                    "finish_reason": "stop",
                },
            )
            for scorer in scorers_of(comparison).values():
                problem = "the judge did not answer" if value is None else ""
                Score.objects.get_or_create(
                    answer=answer, scorer=scorer, defaults={"value": value, "problem": problem}
                )


def runs_end(comparison: Comparison, state: str = State.FINISHED, reason: str = "") -> None:
    """Every run of it has ended."""
    keys = ArmRun.objects.filter(arm__comparison=comparison).values("run")
    Run.objects.filter(pk__in=keys).update(state=state, reason=reason, process="exited")


def imported(owner: User, rows: Iterable[Mapping[str, Any]], name: str = "outside") -> Comparison:
    """A comparison of a file of rows."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return comparison_import(
        owner=owner, file=SimpleUploadedFile("solutions.jsonl", text.encode()), name=name
    )


def gsm8k_rows() -> list[dict[str, Any]]:
    """Rows as GSM8K's example solutions have them, with the real marks and short texts."""
    head, *lines = MARKS.read_text().split()[:4], *MARKS.read_text().split()[4:]
    return [
        {
            "question": f"Problem {number}?",
            "ground_truth": f"#### {number}",
            **{
                model: {"is_correct": mark == "1", "solution": f"{model} says {number} or {mark}"}
                for model, mark in zip(head, line, strict=True)
            },
        }
        for number, line in enumerate(lines, start=1)
    ]
