"""Labelled answers: any split gives the same gradient; the reference point is that of the whole batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.trainer.engine.support import Runs, tiny_spec
from tests.trainer.engine.written import (
    BUDGETS,
    gradient,
    make_learner,
    objectives_of,
    written_rows,
)
from trainer.engine.evaluate import Evaluation
from trainer.engine.labels import DividedLabels
from trainer.engine.loop import best_metric
from trainer.engine.packing import Sequences, micro_batches
from trainer.problems import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.session import Session


@pytest.mark.parametrize("tag", objectives_of("labels"))
def test_micro_batches_change_neither_gradient_nor_metrics(
    session: Session, tmp_path: Path, tag: str
) -> None:
    found = []
    for budget in BUDGETS:
        learner, state = make_learner(
            session,
            tmp_path,
            f"objective.type={tag}",
            f"batch.tokens_per_microbatch={budget}",
        )
        found.append(gradient(learner, state))
    whole_loss, whole, whole_values = found[-1]
    assert float(whole.norm()) > 0
    for loss, grad, values in found[:-1]:
        assert loss == pytest.approx(whole_loss, rel=1e-5, abs=1e-6)
        assert float((grad - whole).norm() / whole.norm()) < 1e-5
        assert values == pytest.approx(whole_values, rel=1e-4, abs=1e-4)
    assert whole_values["kl"] > 0, "the reference point must be above 0 for this test to see it"


def test_the_reference_point_compares_each_prompt_with_the_answer_before(
    session: Session, tmp_path: Path
) -> None:
    learner, _ = make_learner(session, tmp_path, "objective.type=kto")
    divided = DividedLabels(learner, learner.examples, learner.known)
    prompts = [example.prompt for example in learner.examples]
    answers = [example.answers[0] for example in learner.examples]
    shifted = Sequences(prompts, [answers[-1], *answers[:-1]], list(range(len(prompts))))
    for index in (0, 3):
        (rows,) = micro_batches(shifted, [index], budget=1, shared=False)
        for policy, scores in (
            (learner.policy, divided.whole.other_score_N),
            (learner.reference.get(), divided.whole.ref_other_score_N),
        ):
            with torch.no_grad():
                ids = torch.tensor([shifted.prompts[index] + shifted.answers[index]])
                logp = policy.model(input_ids=ids).logits[0].float().log_softmax(-1)
            start = len(shifted.prompts[index])
            wanted = sum(float(logp[t - 1, ids[0, t]]) for t in range(start, ids.shape[1]))
            assert float(scores[index]) == pytest.approx(wanted, abs=1e-3)
        assert len(rows) == 1


def test_saved_reference_scores_are_taken_up_to_the_bit(session: Session, tmp_path: Path) -> None:
    learner, state = make_learner(session, tmp_path, "objective.type=kto")
    first = gradient(learner, state)
    again, other = make_learner(session, tmp_path, "objective.type=kto")
    again.restore(learner.tensors(state))
    assert len(again.known) == 9
    second = gradient(again, other)
    assert first[0] == second[0] and torch.equal(first[1], second[1])


def test_evaluation_measures_what_training_measures(session: Session, tmp_path: Path) -> None:
    # In file order, as evaluation goes: each prompt then meets the same other answer.
    learner, state = make_learner(
        session, tmp_path, "objective.type=kto", "rewards=[]", "curriculum.type=sequential"
    )
    loss, _, values = gradient(learner, state)
    found = Evaluation(
        session, learner.spec, learner.policy, learner.cursor._parts, learner
    ).values(0)
    assert found["eval/loss"] == pytest.approx(loss, rel=1e-5)
    assert found["eval/label_accuracy"] == values["label_accuracy"]
    assert found["eval/margins"] == pytest.approx(values["rewards/margins"], rel=1e-4)


def test_a_single_held_out_row_can_be_evaluated(session: Session, tmp_path: Path) -> None:
    learner, _ = make_learner(session, tmp_path, "objective.type=kto", "rewards=[]")
    (part,) = learner.cursor._parts
    part.examples = part.examples[:1]
    found = Evaluation(session, learner.spec, learner.policy, [part], learner).values(0)
    assert 0 < found["eval/loss"] < 1


def test_a_run_learns_and_picks_its_checkpoints(runs: Runs) -> None:
    assert runs.run("kto", "objective.type=kto", "rewards=[]", "budget.max_steps=4") == 0
    metrics = runs.metrics("kto")
    assert (4, "kl") in metrics and (4, "eval/label_accuracy") in metrics
    assert best_metric(tiny_spec("objective.type=kto")) == "eval/loss"


@pytest.mark.parametrize("tag", ["kto", "aot"])
def test_a_batch_of_one_has_nothing_to_compare_and_is_refused(tag: str) -> None:
    with pytest.raises(SpecError) as refused:
        tiny_spec(f"objective.type={tag}", "batch.prompts_per_step=1")
    assert f"batch.prompts_per_step: {tag} compares the rows" in str(refused.value)


@pytest.mark.parametrize("label", [True, 1, "true", "TRUE ", "1"])
def test_labels_are_understood_in_words(session: Session, tmp_path: Path, label: object) -> None:
    rows = [{**row, "label": label} for row in written_rows(3)]
    learner, _ = make_learner(session, tmp_path, "objective.type=kto", rows=rows)
    assert [example.row["label"] for example in learner.examples] == [True] * 3


@pytest.mark.parametrize("label", ["good", 2, 0.5, [True]])
def test_other_labels_are_refused(session: Session, tmp_path: Path, label: object) -> None:
    rows = [{**row, "label": label} for row in written_rows(3)]
    with pytest.raises(ValueError, match="must be true or false"):
        make_learner(session, tmp_path, "objective.type=kto", rows=rows)


def test_a_false_label_is_a_label(session: Session, tmp_path: Path) -> None:
    rows = [{**row, "label": False} for row in written_rows(3)]
    learner, state = make_learner(session, tmp_path, "objective.type=kto", rows=rows)
    assert len(learner.examples) == 3
    assert "rewards/margins" not in gradient(learner, state)[2]
