"""The prompts of evaluation sets: what is read, and what is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import Run
from orchestrator.selectors.datasets import dataset_path
from orchestrator.selectors.evaluation_sets import SETS_MOST, evaluation_prompts
from orchestrator.services.datasets import dataset_upload

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Dataset, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


def upload(ada: User, column: str = "prompt", **words: Any) -> Dataset:
    lines = "".join(json.dumps({column: f"p{n}"}) + "\n" for n in range(3))
    file = SimpleUploadedFile("eval.jsonl", lines.encode())
    return dataset_upload(owner=ada, file=file, name="held out", **words)


def run_on(ada: User, *sources: dict[str, Any]) -> str:
    return f"run:{Run.objects.create(name='judged', owner=ada, spec={'data': {'eval': list(sources)}}).pk}"


@pytest.mark.parametrize(
    ("column", "mapping"), [("prompt", {}), ("question", {}), ("ask", {"ask": "prompt"})]
)
def test_a_data_set_by_whatever_name_its_prompts_have(
    ada: User, column: str, mapping: dict[str, str]
) -> None:
    held = upload(ada, column, mapping=mapping)
    assert evaluation_prompts([held.pk]) == (["p0", "p1", "p2"], ["held out"])
    assert evaluation_prompts([held.pk, held.pk]) == (["p0", "p1", "p2"], ["held out"])


def test_what_a_run_evaluates_on(ada: User) -> None:
    held = upload(ada, "ask", mapping={"ask": "prompt"})
    name = run_on(
        ada, {"source": held.pk, "limit": 2}, {"source": "arithmetic", "limit": 4, "split": "test"}
    )
    prompts, told = evaluation_prompts([name])
    assert prompts[:2] == ["p0", "p1"] and len(prompts) == 6
    assert told == ["held out of judged", "arithmetic (test) of judged"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "'nothing' is no data set here"),
        ("a" * 12, "is no data set here"),
        ("run:aaaaaaaaaaaa", "there is no run"),
        ("run:", "there is no run"),
        ("", "is no data set here"),
    ],
)
def test_a_set_that_is_not_there_is_named(db: None, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        evaluation_prompts([name])


@pytest.mark.parametrize("source", ["/etc/hostname", "owner/name", "../rows.jsonl"])
def test_only_data_sets_and_built_in_sources_are_read(ada: User, source: str) -> None:
    with pytest.raises(ValueError, match="which only its node reads; upload it"):
        evaluation_prompts([run_on(ada, {"source": source})])


def test_other_refusals(ada: User) -> None:
    with pytest.raises(ValueError, match="evaluates on no data"):
        evaluation_prompts([run_on(ada)])
    with pytest.raises(ValueError, match=f"at most {SETS_MOST}"):
        evaluation_prompts([str(n) for n in range(SETS_MOST + 1)])
    held = upload(ada)
    dataset_path(held).unlink()
    with pytest.raises(ValueError, match="is not on this server"):
        evaluation_prompts([held.pk])
    wrong = upload(ada, "text")
    with pytest.raises(ValueError, match=r"held out cannot be read: .*no column 'prompt'"):
        evaluation_prompts([wrong.pk])
