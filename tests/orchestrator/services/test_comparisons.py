"""Comparisons: what is refused and how, what is launched for them and never twice, stopping, deleting."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import PermissionDenied

from orchestrator.models import (
    Answer,
    Arm,
    ArmRun,
    Checkpoint,
    Comparison,
    Dataset,
    External,
    Item,
    Run,
    Vote,
)
from orchestrator.selectors.comparisons import comparison_get, comparison_progress, sampling_key
from orchestrator.selectors.datasets import dataset_path, datasets_list
from orchestrator.selectors.run_words import method_chips
from orchestrator.selectors.spec_choices import data_choices
from orchestrator.services.comparison_readings import comparison_read
from orchestrator.services.comparison_runs import comparison_launch
from orchestrator.services.comparisons import (
    comparison_create,
    comparison_delete,
    comparison_patch,
    comparison_resume,
    comparison_stop,
)
from orchestrator.services.evaluation_sets import evaluation_set_add
from orchestrator.services.externals import external_register, external_reread
from tests.orchestrator.answered import (
    EXACT,
    ROWS,
    answers_put,
    checkpoint_add,
    checkpoint_make,
    dataset_make,
    imported,
    runs_end,
)
from tests.orchestrator.model_folder import model_write, weights_write
from trainer.answering import item_digest, sampling_digest, sampling_of, scorer_digests
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def two(ada: User) -> list[str]:
    """Two checkpoints of one run."""
    one = checkpoint_make(ada)
    return [f"checkpoint:{one.pk}", f"checkpoint:{checkpoint_add(one.run, 20).pk}"]


@pytest.fixture
def make(ada: User, two: list[str]) -> Callable[..., Comparison]:
    dataset = dataset_make(ada)

    def made(**words: Any) -> Comparison:
        order = {"checkpoints": two, "prompts": [{"source": dataset.pk}], "scorers": [EXACT]}
        return comparison_create(owner=ada, **{**order, **words})

    return made


def state(comparison: Comparison) -> str:
    return comparison_progress(comparison_get(comparison.pk)).state


def refused(make: Callable[..., Comparison], **words: Any) -> dict[str, str]:
    """Path -> message of what is wrong with an order; nothing may be left of it."""
    before = Run.objects.count()
    with pytest.raises(SpecError) as caught:
        make(**words)
    assert not Comparison.objects.exists() and Run.objects.count() == before
    return {one.path: one.message for one in caught.value.problems}


def test_it_makes_arms_items_and_one_run_an_arm(make: Callable[..., Comparison]) -> None:
    comparison = make(sampling={"samples": 3, "temperature": 0.7}, seed=5)
    arms = list(comparison.arms.all())
    assert [arm.name for arm in arms] == ["r, step 10", "r, step 20"]
    assert [arm.facts["step"] for arm in arms] == [10, 20]
    assert {arm.train_seed for arm in arms} == {0} and len({arm.recipe for arm in arms}) == 1
    items = list(comparison.items.all())
    assert [item.row for item in items] == ROWS
    assert [item.digest for item in items] == [item_digest(row) for row in ROWS]
    runs = [tie.run for arm in arms for tie in arm.runs.all()]
    assert [run.spec["model"]["name"] for run in runs] == [arm.model for arm in arms]
    assert {run.kind for run in runs} == {"evaluate"}
    evaluation = runs[0].spec["evaluation"]
    assert evaluation["answers"] == "all" and evaluation["samples_per_prompt"] == 3
    assert state(comparison) == "waiting"


def test_the_rows_of_its_runs_are_none_of_peoples_datasets(
    make: Callable[..., Comparison], vera: User, client: Client
) -> None:
    make()
    (own,) = datasets_list()[0]
    assert own.name == "d"
    assert {one.name for one in datasets_list(made=True)[0]} > {"d"}
    made = Dataset.objects.exclude(pk=own.pk)
    choices = [choice.value for some in data_choices().values() for choice in some]
    assert own.pk in choices and not {one.pk for one in made} & set(choices)
    client.force_login(vera)
    page = client.get("/datasets/").text
    assert "that comparisons gave their own runs" in page and made[0].pk not in page
    assert made[0].pk in client.get("/datasets/?made=1").text
    run = Run.objects.filter(kind="evaluate").order_by("pk")[0]
    assert method_chips(run.spec) == ["Evaluation"], "it looks at no training data"


def test_runs_answer_under_the_names_that_the_comparison_looks_for(
    make: Callable[..., Comparison],
) -> None:
    """The trainer's digests, from the run's spec and file, are those of the comparison."""
    comparison = make(sampling={"samples": 2, "max_new_tokens": 9, "top_p": 0.9}, seed=3)
    run = Run.objects.get(arm_runs__arm__position=0)
    assert sampling_digest(sampling_of(run.spec), run.spec["seed"]) == sampling_key(comparison)
    assert scorer_digests(run.spec["rewards"]) == {
        one["type"]: one["digest"] for one in comparison.scorers
    }
    file = dataset_path(Dataset.objects.get(pk=run.spec["data"]["eval"][0]["source"]))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [item_digest(row) for row in rows] == sorted(
        comparison.items.values_list("digest", flat=True)
    ), "drawn by digest, so that early looks are fair"


@pytest.mark.parametrize(
    ("words", "path", "message"),
    [
        ({"checkpoints": ["starter"]}, "checkpoints", "1 given; a comparison has 2 to 6 models"),
        ({"checkpoints": [f"m/{n}" for n in range(7)]}, "checkpoints", "7 given"),
        ({"checkpoints": ["m/a", "m/a"]}, "checkpoints.1", "m/a is there twice"),
        ({"checkpoints": ["m/a", "checkpoint:aaaaaaaaaaaa"]}, "checkpoints.1", "there is no"),
        ({"checkpoints": ["m/a", "run:aaaaaaaaaaaa"]}, "checkpoints.1", "there is no"),
        ({"checkpoints": ["m/a", "external:aaaaaaaaaaaa"]}, "checkpoints.1", "there is no"),
        ({"checkpoints": ["m/a", ""]}, "checkpoints.1", "named by 1 to 300"),
        ({"prompts": []}, "prompts", "there are none"),
        ({"prompts": [{"source": "no/such"}]}, "prompts.0.source", "neither a dataset here"),
        ({"prompts": [{"source": "/etc/x.jsonl"}]}, "prompts.0.source", "upload the file"),
        ({"prompts": [{"source": "arithmetic", "limit": -1}]}, "prompts.0.limit", "greater"),
        ({"scorers": []}, "scorers", "there is none"),
        ({"scorers": [{"type": "nothing"}]}, "scorers.0", "nothing"),
        ({"scorers": [EXACT, EXACT]}, "scorers", "two are called exact-match"),
        ({"sampling": {"samples": 0}}, "sampling.samples", "greater"),
        ({"sampling": {"samples": 4, "temperature": 0}}, "sampling.temperature", "sampling.samples"),
        ({"sampling": {"heat": 1}}, "sampling.heat", "there is no such setting"),
        ({"seed": -1}, "seed", "must be from 0"),
    ],
)  # fmt: skip
def test_it_names_the_field_that_is_wrong(
    make: Callable[..., Comparison], words: dict[str, Any], path: str, message: str
) -> None:
    found = refused(make, **words)
    assert message in found[path], found


def test_it_refuses_removed_files(make: Callable[..., Comparison], two: list[str]) -> None:
    Checkpoint.objects.filter(step=20).update(deleted="2026-01-01T00:00Z")
    assert "its files were removed" in refused(make)["checkpoints.1"]


def test_it_refuses_an_empty_prompt_set(make: Callable[..., Comparison], ada: User) -> None:
    empty = dataset_make(ada, [{"prompt": "", "answer": "1"}], "empty")
    assert "no row can be used" in refused(make, prompts=[{"source": empty.pk}])["prompts.0.source"]


def test_it_refuses_more_answers_than_can_be_looked_at(make: Callable[..., Comparison]) -> None:
    prompts = [{"source": "arithmetic", "limit": 5000}]
    found = refused(make, prompts=prompts, sampling={"samples": 256})
    assert "1,000,000 are the most" in found["sampling.samples"]


def test_a_prompt_that_comes_twice_counts_once_and_is_told(
    make: Callable[..., Comparison], ada: User
) -> None:
    again = dataset_make(ada, [ROWS[0], ROWS[0], {"prompt": "new"}], "again")
    comparison = make(prompts=[{"source": again.pk}])
    assert comparison.items.count() == 2
    assert "again: repeated rows, which count once: 1." in comparison.note


def test_built_in_sources_give_the_trainers_rows(make: Callable[..., Comparison]) -> None:
    comparison = make(prompts=[{"source": "arithmetic", "split": "test", "limit": 20}])
    assert comparison.items.count() == 20
    assert set(comparison.items.values_list("part", flat=True)) == {"arithmetic"}


def test_what_is_there_is_not_made_again(make: Callable[..., Comparison], ada: User) -> None:
    first = make(sampling={"samples": 2})
    for arm in first.arms.all():
        answers_put(arm, lambda item, index: 1.0, samples=2)
    runs_end(first)
    assert state(first) == "ready"
    before = Run.objects.count()
    second = make(sampling={"samples": 2})
    assert state(second) == "ready" and Run.objects.count() == before
    third = make(sampling={"samples": 3})
    run = ArmRun.objects.filter(arm__comparison=third).first().run
    file = dataset_path(Dataset.objects.get(pk=run.spec["data"]["eval"][0]["source"]))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {tuple(row["_samples"]) for row in rows} == {(2,)}


def test_answers_that_lack_a_score_are_scored_and_not_made(make: Callable[..., Comparison]) -> None:
    first = make()
    for arm in first.arms.all():
        answers_put(arm, lambda item, index: 1.0)
    second = make(scorers=[EXACT, {"type": "answer-length"}])
    run = ArmRun.objects.filter(arm__comparison=second).first().run
    file = dataset_path(Dataset.objects.get(pk=run.spec["data"]["eval"][0]["source"]))
    row = json.loads(file.read_text().splitlines()[0])
    answer = Answer.objects.get(item=item_digest(row), model=second.arms.first().digest)
    assert row["_answers"][0]["token_ids"] == answer.token_ids
    assert state(second) == "waiting"


def test_launching_again_launches_nothing(make: Callable[..., Comparison], ada: User) -> None:
    comparison = make()
    assert comparison_launch(comparison_id=comparison.pk, user=ada) == []
    assert ArmRun.objects.count() == 2


def test_equal_weights_are_asked_once(make: Callable[..., Comparison], ada: User) -> None:
    one = checkpoint_make(ada, "one")
    other = checkpoint_make(ada, "other")
    Checkpoint.objects.update(sha256="a" * 64)
    comparison = make(checkpoints=[f"checkpoint:{one.pk}", f"checkpoint:{other.pk}"])
    assert Run.objects.filter(kind="evaluate").count() == 1
    assert ArmRun.objects.count() == 2
    answers_put(comparison.arms.first(), lambda item, index: 1.0)
    assert state(comparison) == "ready"


def test_models_that_nobody_can_look_at_share_no_answers(make: Callable[..., Comparison]) -> None:
    first, second = (make(checkpoints=["hub/a", "hub/b"]) for _ in range(2))
    digests = {arm.digest for one in (first, second) for arm in one.arms.all()}
    assert len(digests) == 4


def test_a_folder_is_known_by_what_lies_in_it(
    make: Callable[..., Comparison], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"name": name}))
    order = [str(tmp_path / "a"), str(tmp_path / "b")]
    first, second = make(checkpoints=order), make(checkpoints=order)
    assert [a.digest for a in first.arms.all()] == [a.digest for a in second.arms.all()]
    (tmp_path / "a" / "model.safetensors").write_bytes(b"weights")
    third = make(checkpoints=order)
    assert first.arms.first().digest != third.arms.first().digest
    assert first.arms.last().digest == third.arms.last().digest


def test_the_state_follows_from_facts(make: Callable[..., Comparison], ada: User) -> None:
    comparison = make()
    Run.objects.filter(arm_runs__arm__position=0).update(state="running")
    assert state(comparison) == "running"
    answers_put(comparison.arms.first(), lambda item, index: 1.0)
    runs_end(comparison, "failed", "The node has no such model.")
    found = comparison_progress(comparison_get(comparison.pk))
    assert found.state == "incomplete" and "The node has no such model." in found.reason
    answers_put(comparison.arms.last(), lambda item, index: None if item.number == 1 else 0.0)
    found = comparison_progress(comparison_get(comparison.pk))
    assert (found.state, found.there, found.failed) == ("incomplete", 23, 1)


def test_it_fails_when_nothing_came(make: Callable[..., Comparison]) -> None:
    comparison = make()
    runs_end(comparison, "failed", "bad input")
    assert state(comparison) == "failed"


def test_stopping_stops_its_runs_and_keeps_what_is_there(
    make: Callable[..., Comparison], ada: User, bob: User, alma: User
) -> None:
    comparison = make()
    with pytest.raises(PermissionDenied):
        comparison_stop(comparison_id=comparison.pk, user=bob)
    comparison_stop(comparison_id=comparison.pk, user=alma)
    assert set(Run.objects.filter(kind="evaluate").values_list("state", flat=True)) == {"stopped"}
    assert state(comparison) == "stopped"
    with pytest.raises(ValueError, match="nothing to stop"):
        comparison_stop(comparison_id=comparison.pk, user=ada)
    comparison_resume(comparison_id=comparison.pk, user=ada)
    assert state(comparison) == "waiting"
    assert ArmRun.objects.count() == 4


def test_renaming_is_for_its_owner(make: Callable[..., Comparison], ada: User, bob: User) -> None:
    comparison = make()
    with pytest.raises(PermissionDenied):
        comparison_patch(comparison_id=comparison.pk, user=bob, changes={"name": "mine"})
    with pytest.raises(ValueError, match="name: a comparison needs a name"):
        comparison_patch(comparison_id=comparison.pk, user=ada, changes={"name": " \x07 "})
    made = comparison_patch(comparison_id=comparison.pk, user=ada, changes={"note": "n\x00"})
    assert made.note == "n\ufffd" and made.name == comparison.name


def test_deleting_leaves_answers_for_others(make: Callable[..., Comparison], ada: User) -> None:
    comparison = make()
    arms = list(comparison.arms.all())
    answers_put(arms[0], lambda item, index: 1.0)
    item = comparison.items.first()
    Vote.objects.create(
        comparison=comparison, item=item, left=arms[0], right=arms[1], voter=ada, outcome="left"
    )
    comparison_delete(comparison_id=comparison.pk, user=ada)
    assert not (Comparison.objects.exists() or Item.objects.exists() or Arm.objects.exists())
    assert not Vote.objects.exists() and Answer.objects.count() == len(ROWS)
    assert set(Run.objects.filter(kind="evaluate").values_list("state", flat=True)) == {"stopped"}


def test_nothing_is_launched_for_a_file(ada: User) -> None:
    mark = {"is_correct": True}
    comparison = imported(ada, [{"question": "q", "a": mark, "b": mark}])
    with pytest.raises(ValueError, match="came from a file"):
        comparison_resume(comparison_id=comparison.pk, user=ada)


def test_an_evaluation_set_finds_the_answers_that_are_there(
    make: Callable[..., Comparison], ada: User
) -> None:
    """Where its rows come from is no part of what is asked."""
    first = make()
    for arm in first.arms.all():
        answers_put(arm, lambda item, index: 1.0)
    kept = evaluation_set_add(comparison=first, user=ada, numbers=[1, 3], name="kept")
    rows = [json.loads(line) for line in dataset_path(kept).read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"comparison:{first.pk}/1", f"comparison:{first.pk}/3"]
    before = Run.objects.count()
    second = make(prompts=[{"source": kept.pk}])
    assert state(second) == "ready" and Run.objects.count() == before


def test_registered_models_of_one_config_never_answer_for_each_other(
    make: Callable[..., Comparison], ada: User, tmp_path: Path
) -> None:
    base, tuned = (model_write(tmp_path / name) for name in ("base", "tuned"))
    weights_write(tuned / "model.safetensors", {"a.weight": [8, 64], "b.weight": [9]})
    one, other = (external_register(owner=ada, source=str(path)) for path in (base, tuned))
    assert one.sha256 == other.sha256, "the hash of their config"
    named = [f"external:{one.pk}", f"external:{other.pk}"]
    first, second = (arm.digest for arm in make(checkpoints=named).arms.all())
    assert first != second
    assert [arm.digest for arm in make(checkpoints=named).arms.all()] == [first, second]
    # Trained on in its place: what answers now is another model.
    os.utime(tuned / "model.safetensors", (1, 1))
    again = [arm.digest for arm in make(checkpoints=named).arms.all()]
    assert again[0] == first and again[1] != second
    # What is missing of the first comparison can no longer be made by the model that began it.
    Run.objects.update(state="failed", process="exited")
    begun = Comparison.objects.order_by("created").first()
    with pytest.raises(SpecError) as caught:
        comparison_resume(comparison_id=begun.pk, user=ada)
    (problem,) = caught.value.problems
    assert problem.path == "checkpoints.1" and "changed since this was made" in problem.message
    for arm in begun.arms.all():
        arm.facts["vocabulary"] = "v" * 64
        arm.save()
        answers_put(arm, lambda item, index: 1.0, words=f"{arm.position}")
    with pytest.raises(SpecError, match="changed since this was made"):
        comparison_read(comparison_id=begun.pk, user=ada)
    # A manifest tells of every file: the same weights wherever they lie.
    (tuned / "manifest.json").write_text("{}")
    looked = external_reread(external_id=other.pk, user=ada)
    assert [arm.digest for arm in make(checkpoints=named).arms.all()] == [first, looked.sha256]


def test_registered_models_that_lie_elsewhere_answer_for_themselves(
    make: Callable[..., Comparison], ada: User
) -> None:
    words = {"owner": ada, "kind": "path", "source": "/models/a", "everywhere": True}
    known, alike = (
        External.objects.create(name=name, sha256="e" * 64, **words) for name in ("known", "alike")
    )
    unread = External.objects.create(name="unread", **words)
    named = [f"external:{one.pk}" for one in (known, alike, unread)]
    arms = make(checkpoints=named).arms.all()
    assert len({arm.digest for arm in arms}) == 3 and all(len(arm.digest) == 64 for arm in arms)
    assert (arms[0].name, arms[0].model) == ("known", named[0])
    again = make(checkpoints=named).arms.all()
    same = [arm.digest == before.digest for arm, before in zip(again, arms, strict=True)]
    assert same == [True, True, False]
