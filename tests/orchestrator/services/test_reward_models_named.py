"""Rewards and scorers that name a reward model by its id: what is refused, waited for, fixed and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Checkpoint, External, Run
from orchestrator.selectors.checkpoint_needs import children_of, needs_of
from orchestrator.selectors.inputs import inputs_of
from orchestrator.selectors.reach import node_reads_checkpoint
from orchestrator.selectors.registry_lineage import descendants_of, lineage_of
from orchestrator.selectors.spec_choices import (
    name_problems,
    names_explained,
    reward_model_choices,
)
from orchestrator.services.claims import run_claim
from orchestrator.services.comparisons import comparison_create, comparison_resume
from orchestrator.services.externals import external_delete, external_register
from orchestrator.services.placement import schedule
from orchestrator.services.promotion_rules import after_checked
from orchestrator.services.runs import run_stop
from orchestrator.services.shelf import run_delete
from tests.orchestrator.answered import checkpoint_add, checkpoint_make, dataset_make
from tests.orchestrator.model_folder import model_write, weights_write
from trainer.answering import scorer_digest
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
PAIRS = {"objective": {"type": "bradley-terry"}}
SCORER = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "reward"}}


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def taste(ada: User) -> Checkpoint:
    """A checkpoint of a run that trained a reward model."""
    return checkpoint_make(ada, "taste", **PAIRS)


@pytest.fixture
def writer(ada: User) -> Checkpoint:
    return checkpoint_make(ada, "writer", objective={"type": "sft"})


def scored_by(name: str, **more: Any) -> dict[str, Any]:
    """Parts of a spec that is rewarded by a model of this name."""
    rewards = [{"type": "exact-match"}, {"type": "reward-model", "model": name, **more}]
    return {"objective": {"type": "grpo"}, "rewards": rewards}


def problems(act: Callable[[], Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        act()
    return {one.path: one.message for one in caught.value.problems}


def external(alma: User, folder: Path, name: str, **config: Any) -> External:
    return external_register(
        owner=alma, source=str(model_write(folder / name, **config)), name=name
    )


# --- runs -----------------------------------------------------------------------------------------


def test_what_a_reward_names_is_brought_to_the_node(launch, joined, taste):
    name = f"checkpoint:{taste.pk}"
    run = launch(**scored_by(name))
    assert inputs_of(run)["models"][name]["sha256"] == taste.sha256
    node = joined()
    assert not node_reads_checkpoint(node, taste)
    assert schedule() == 1
    assert run_claim(node=node, run_id=run.pk, attempt=1) is not None
    assert node_reads_checkpoint(node, taste), "it may fetch it"


def test_a_run_waits_for_the_run_that_trains_its_reward_model(launch, joined):
    joined(slots=2)
    scorer = launch("scorer", **PAIRS)
    run = launch("writer", **scored_by(f"run:{scorer.pk}"))
    assert schedule() == 1
    run.refresh_from_db()
    assert run.state == "queued" and scorer.pk in run.reason
    Run.objects.filter(pk=scorer.pk).update(state="finished", process="exited")
    checkpoint_add(scorer, 10)
    assert schedule() == 1


def test_names_that_stand_for_no_reward_model_are_refused(launch, writer, taste, alma, tmp_path):
    taste.deleted = taste.created
    taste.save()
    plain = external(alma, tmp_path, "plain")
    for name, words in (
        ("checkpoint:aaaaaaaaaaaa", "there is no checkpoint:aaaaaaaaaaaa"),
        (f"checkpoint:{taste.pk}", "or its files are gone"),
        ("run:aaaaaaaaaaaa", "there is no run:aaaaaaaaaaaa"),
        (f"checkpoint:{writer.pk}", r"(writer) is no reward model: it writes, and does not score"),
        (f"run:{writer.run_id}", "is no reward model"),
        ("external:aaaaaaaaaaaa", "there is no external:aaaaaaaaaaaa here"),
        (f"external:{plain.pk}", "(plain) is no reward model: its config names no sequence"),
    ):
        found = problems(lambda name=name: launch(**scored_by(name)))
        assert list(found) == ["rewards.1.model"] and words in found["rewards.1.model"], found
        (told,) = name_problems(scored_by(name))
        assert told.path == "rewards.1.model", "the form says so before"
    assert not Run.objects.filter(name="tiny").exists()


def test_a_registered_reward_model_scores(launch, alma, tmp_path):
    scorer = external(alma, tmp_path, "scorer", **SCORER)
    name = f"external:{scorer.pk}"
    run = launch(**scored_by(name))
    assert inputs_of(run)["models"][name]["source"] == scorer.source
    assert [(kin.relation, kin.title) for kin in descendants_of(scorer)] == [
        ("scored by it", "tiny")
    ]
    with pytest.raises(ValueError, match="tiny"):
        external_delete(external_id=scorer.pk, user=alma)


def test_what_scores_is_kept_while_it_is_needed_and_known_for_what_it_was(launch, taste, ada):
    run = launch(**scored_by(f"checkpoint:{taste.pk}"))
    assert needs_of([taste]) == {taste.pk: ("tiny needs it and has not ended",)}
    with pytest.raises(ValueError, match="Still needed by tiny"):
        run_delete(run_id=taste.run_id, user=ada)
    run_stop(run_id=run.pk, user=ada)
    assert needs_of([taste]) == {}
    assert children_of([taste]) == {taste.pk: ("tiny",)}, "it made the run what it is"
    assert [(kin.relation, kin.title) for kin in descendants_of(taste)] == [
        ("scored by it", "tiny")
    ]
    made = checkpoint_add(run, 10)
    assert [(one.relation, one.title) for one in lineage_of(made).parents] == [
        ("start model", "starter"),
        ("reward model", "taste, step 10"),
    ]


def test_the_form_offers_reward_models_alone(taste, writer, alma, tmp_path):
    external(alma, tmp_path, "plain")
    scorer = external(alma, tmp_path, "scorer", **SCORER)
    found = {one.value for some in reward_model_choices().values() for one in some}
    assert found == {
        f"run:{taste.run_id}",
        f"checkpoint:{taste.pk}",
        f"external:{scorer.pk}",
    }
    explained = names_explained(scored_by(f"checkpoint:{taste.pk}"))
    assert explained == {"rewards.1.model": "taste, step 10"}
    assert name_problems(scored_by(f"checkpoint:{taste.pk}")) == []


# --- comparisons ----------------------------------------------------------------------------------


@pytest.fixture
def make(ada: User, writer: Checkpoint) -> Callable[..., Any]:
    prompts = [{"source": dataset_make(ada).pk}]
    arms = [f"checkpoint:{writer.pk}", f"checkpoint:{checkpoint_add(writer.run, 20).pk}"]

    def made(model: str, checkpoints: list[str] = arms) -> Any:
        scorers = [{"type": "reward-model", "model": model}]
        return comparison_create(
            owner=ada, checkpoints=checkpoints, prompts=prompts, scorers=scorers
        )

    return made


def test_a_scorer_that_names_a_run_is_fixed_to_its_checkpoint(make, taste):
    comparison = make(f"run:{taste.run_id}")
    (scorer,) = comparison.scorers
    assert scorer["model"] == f"checkpoint:{taste.pk}"
    (run, _) = Run.objects.filter(kind="evaluate")
    assert run.spec["rewards"][0]["model"] == f"checkpoint:{taste.pk}"
    checkpoint_add(taste.run, 50)
    again = make(f"run:{taste.run_id}")
    assert again.scorers[0]["digest"] != scorer["digest"], "other weights, another scorer"


def test_scores_of_a_folder_stand_for_the_files_that_were_there(make, alma, tmp_path):
    folder = model_write(tmp_path / "scorer", **SCORER)
    first, again = (make(str(folder)).scorers[0] for _ in range(2))
    assert first["content"] and first["digest"] == again["digest"]
    spec = Run.objects.filter(kind="evaluate").first().spec
    code = {"code_hash": "h"}
    assert scorer_digest(spec["rewards"][0], **code) == scorer_digest(
        {key: value for key, value in first.items() if key != "digest"}, **code
    ), "the trainer finds the same name for it"
    model_write(tmp_path / "scorer", **SCORER, hidden_size=99)
    assert make(str(folder)).scorers[0]["digest"] != first["digest"]
    registered = external_register(owner=alma, source=str(folder), name="scorer")
    first = make(f"external:{registered.pk}").scorers[0]
    weights_write(folder / "model.safetensors", {"a.weight": [8, 65]})
    again = make(f"external:{registered.pk}").scorers[0]
    assert first["content"] and first["digest"] != again["digest"], "one config, other weights"


def test_what_is_missing_is_scored_by_the_files_that_are_there_then(make, ada, tmp_path):
    folder = model_write(tmp_path / "scorer", **SCORER)
    comparison = make(str(folder))
    first = comparison.scorers[0]
    Run.objects.update(state="failed", process="exited")
    weights_write(folder / "model.safetensors", {"a.weight": [8, 66]})
    comparison_resume(comparison_id=comparison.pk, user=ada)
    comparison.refresh_from_db()
    assert comparison.scorers[0]["digest"] != first["digest"], "scores of both never mix"
    run = Run.objects.filter(kind="evaluate", state="queued").first()
    assert run.spec["rewards"][0]["content"] == comparison.scorers[0]["content"]


def test_a_registered_scorer_that_is_gone_is_told_at_its_place(make, alma, tmp_path):
    scorer = external(alma, tmp_path, "scorer", **SCORER)
    (tmp_path / "scorer" / "config.json").unlink()
    found = problems(lambda: make(f"external:{scorer.pk}"))
    assert list(found) == ["scorers.0.model"] and "config.json" in found["scorers.0.model"]
    assert not Run.objects.filter(kind="evaluate").exists()


def test_orders_with_a_wrong_scorer_or_a_scorer_as_a_model_are_refused(
    make, taste, writer, alma, tmp_path
):
    for name, words in (
        ("checkpoint:aaaaaaaaaaaa", "there is no"),
        (f"checkpoint:{writer.pk}", "is no reward model"),
    ):
        found = problems(lambda name=name: make(name))
        assert list(found) == ["scorers.0.model"] and words in found["scorers.0.model"]
    Checkpoint.objects.filter(pk=taste.pk).update(deleted=taste.created)
    found = problems(lambda: make(f"run:{taste.run_id}"))
    assert "has no checkpoint yet" in found["scorers.0.model"]
    Checkpoint.objects.filter(pk=taste.pk).update(deleted=None)
    arms = [f"checkpoint:{writer.pk}", f"checkpoint:{taste.pk}"]
    found = problems(lambda: make(f"checkpoint:{taste.pk}", arms))
    assert "(taste) is a reward model: it scores, and writes no answers" in found["checkpoints.1"]
    arms[1] = f"external:{external(alma, tmp_path, 'scorer', **SCORER).pk}"
    found = problems(lambda: make(f"checkpoint:{taste.pk}", arms))
    assert "(scorer) is a reward model" in found["checkpoints.1"]


def test_a_promotion_rule_names_a_reward_model_that_is_one(launch, taste, writer):
    spec = launch(**scored_by(f"checkpoint:{taste.pk}")).spec
    prompts = [{"source": "arithmetic", "split": "test", "limit": 4}]

    def rule(name: str) -> dict[str, Any]:
        scorers = [{"type": "reward-model", "model": name}]
        baseline = f"checkpoint:{writer.pk}"
        return {"prompts": prompts, "scorers": scorers, "baseline": baseline}

    assert after_checked(rule(f"checkpoint:{taste.pk}"), spec)["better_on"] == "reward-model"
    found = problems(lambda: after_checked(rule(f"checkpoint:{writer.pk}"), spec))
    assert "is no reward model" in found["promotion.scorers.0.model"]
