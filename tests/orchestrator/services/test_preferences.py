"""Votes as a data set: what is in it, what is left out, and that DPO reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import Answer, Dataset, Run
from orchestrator.selectors.dataset_serves import services_of
from orchestrator.selectors.datasets import dataset_path
from orchestrator.services.datasets import dataset_upload
from orchestrator.services.preferences import GONE, KINDS, preferences_export
from tests.orchestrator.compared import compared, voted
from trainer.rows import rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Comparison, User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def comparison(ada: User, bob: User) -> Comparison:
    """Six prompts: four decided, one a tie, one split; two of them turned around."""
    made = compared(ada, items=8)
    voted(made, ada, 0, "left")
    voted(made, bob, 0, "right", ("tuned", "base"))
    voted(made, ada, 1, "left", ("tuned", "base"))
    voted(made, ada, 2, "right")
    voted(made, ada, 3, "right")
    voted(made, ada, 4, "tie")
    voted(made, ada, 5, "left")
    voted(made, bob, 5, "right")
    return made


def stored(dataset: Dataset) -> list[dict[str, Any]]:
    return [json.loads(line) for line in dataset_path(dataset).read_text().splitlines()]


def upload(ada: User, *prompts: str, column: str = "prompt") -> Dataset:
    lines = "".join(json.dumps({column: prompt}) + "\n" for prompt in prompts)
    file = SimpleUploadedFile("eval.jsonl", lines.encode())
    return dataset_upload(owner=ada, file=file, name="held out")


def test_rows_carry_answers_and_where_they_came_from(ada: User, comparison: Comparison) -> None:
    made = preferences_export(comparison=comparison, user=ada)
    assert (made.pairs, made.left_out) == (4, {"tie": 1, "no majority": 1})
    assert made.dataset.name == "Votes on base against tuned"
    rows = stored(made.dataset)
    first = rows[0]
    arms = {arm.name: arm for arm in comparison.arms.all()}
    texts = {
        name: Answer.objects.get(model=arm.digest, item=comparison.items.get(number=0).digest).text
        for name, arm in arms.items()
    }
    assert first["prompt"] == "What is 0 + 1?"
    assert (first["chosen"], first["rejected"]) == (texts["base"], texts["tuned"])
    told = first["provenance"]
    assert (told["comparison"], told["item"], told["judges"]) == (comparison.pk, 0, ["ada", "bob"])
    assert told["votes"] == {"chosen": 2, "rejected": 0, "tie": 0, "both_bad": 0}
    assert told["agreement"] == 1.0
    assert told["chosen"]["digest"] == arms["base"].digest
    assert [row["provenance"]["chosen"]["name"] for row in rows] == ["base", *["tuned"] * 3]


def test_dpo_reads_it(ada: User, comparison: Comparison) -> None:
    dataset = preferences_export(comparison=comparison, user=ada).dataset
    pairs = next(one for one in services_of(dataset) if one.kind == "pairs")
    assert pairs.ok and "dpo" in pairs.methods
    wanted = frozenset({"prompt", "chosen", "rejected"})
    files = {dataset.pk: dataset_path(dataset)}
    loaded = rows_load(DataSource(source=dataset.pk), seed=0, wanted=wanted, datasets=files)
    assert len(loaded.rows) == 4 and not loaded.dropped


def test_prompts_of_evaluation_sets_are_left_out_and_counted(
    ada: User, comparison: Comparison
) -> None:
    held = upload(ada, "What is 0 + 1?", "what is 2 + 1", "What is 4 + 1?")
    made = preferences_export(comparison=comparison, user=ada, against=[held.pk])
    assert made.pairs == 2 and made.sets == ["held out"]
    assert made.left_out == {
        "tie": 1,
        "no majority": 1,
        KINDS["exact"]: 1,
        KINDS["normalised"]: 1,
    }
    assert [row["prompt"] for row in stored(made.dataset)] == ["What is 1 + 1?", "What is 3 + 1?"]


def test_what_a_run_evaluates_on_is_an_evaluation_set(ada: User, comparison: Comparison) -> None:
    held = upload(ada, "What is 1 + 1?")
    spec = {"data": {"eval": [{"source": held.pk}, {"source": "arithmetic", "limit": 16}]}}
    run = Run.objects.create(name="judged", owner=ada, spec=spec)
    made = preferences_export(comparison=comparison, user=ada, against=[f"run:{run.pk}"])
    assert made.sets == ["held out of judged", "arithmetic (train) of judged"]
    assert made.left_out[KINDS["exact"]] == 1 and made.pairs == 3


def test_a_set_that_is_not_there_stores_nothing(ada: User, comparison: Comparison) -> None:
    before = Dataset.objects.count()
    with pytest.raises(ValueError, match="'nothing' is no data set here"):
        preferences_export(comparison=comparison, user=ada, against=["nothing"])
    assert Dataset.objects.count() == before


def test_votes_that_were_taken_back_do_not_count(ada: User, comparison: Comparison) -> None:
    for vote in ada.votes.filter(item__number=3):
        vote.undone = vote.created
        vote.save()
    assert preferences_export(comparison=comparison, user=ada).pairs == 3


def test_no_pair_left_is_refused_with_the_reasons(ada: User, comparison: Comparison) -> None:
    held = upload(ada, *(f"What is {n} + 1?" for n in range(8)))
    with pytest.raises(ValueError, match="no pair is left to export: prompt of an evaluation set"):
        preferences_export(comparison=comparison, user=ada, against=[held.pk])
    with pytest.raises(ValueError, match="nobody has voted"):
        preferences_export(comparison=compared(ada, name="new"), user=ada)


def test_an_answer_that_is_gone_is_counted(ada: User, comparison: Comparison) -> None:
    arm = comparison.arms.get(name="base")
    item = comparison.items.get(number=2)
    Answer.objects.filter(model=arm.digest, item=item.digest).delete()
    made = preferences_export(comparison=comparison, user=ada)
    assert (made.pairs, made.left_out[GONE]) == (3, 1)


def test_votes_of_the_blind_weigh_nothing(ada: User, bob: User, comparison: Comparison) -> None:
    for number in range(6):
        voted(comparison, ada, number, "left", gold="left", index=1)
        voted(comparison, bob, number, "right", gold="left", index=1)
    made = preferences_export(comparison=comparison, user=ada, weighted=True)
    chosen = {
        row["provenance"]["item"]: row["provenance"]["chosen"]["name"]
        for row in stored(made.dataset)
    }
    assert chosen[5] == "base", "bob, who is wrong on every test item, does not decide"
