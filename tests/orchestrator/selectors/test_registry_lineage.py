"""Where models came from, and what was made from them."""

from __future__ import annotations

import json

import pytest

from orchestrator.models import Checkpoint, External, Run
from orchestrator.selectors.checkpoint_needs import children_of, needs_of
from orchestrator.selectors.registry_lineage import descendants_of, kin_shape, lineage_of
from orchestrator.services.externals import external_register
from tests.orchestrator.model_folder import model_write


@pytest.fixture
def trained(ada):
    """Make a run that has ended with one checkpoint: `trained("a", model={...})`."""

    def make(name: str, step: int = 10, **spec) -> Checkpoint:
        fields = {key: spec.pop(key) for key in ("parent", "parent_step") if key in spec}
        run = Run.objects.create(name=name, owner=ada, spec=spec, state="finished", **fields)
        sha256 = f"{Checkpoint.objects.count() + 1:064d}"
        return Checkpoint.objects.create(
            run=run, attempt=1, step=step, path="x", sha256=sha256, final=True
        )

    return make


def told(kin):
    """(relation, title) of each parent, with theirs."""
    return [(one.relation, one.title, told(one)) for one in kin.parents]


def test_a_chain_is_followed_to_where_it_began(trained):
    warm = trained("warm", model={"name": "starter", "warm_start": "noisy_sort_sft"})
    middle = trained("middle", model={"name": f"run:{warm.run_id}"})
    last = trained(
        "last", model={"name": f"checkpoint:{middle.pk}"}, reference={"name": "NAME/MODEL"}
    )
    start = [("start model", "starter", []), ("warm start", "noisy_sort_sft", [])]
    assert told(lineage_of(last)) == [
        ("start model", "middle, step 10", [("start model", "warm, step 10", start)]),
        ("reference", "NAME/MODEL", []),
    ]
    shape = kin_shape(lineage_of(last))
    assert (shape["kind"], shape["id"], shape["relation"]) == ("checkpoint", last.pk, "")
    assert json.dumps(shape)
    assert [(kin.relation, kin.title) for kin in descendants_of(warm)] == [("trained on", "middle")]


def test_what_was_only_measured_may_go_like_any_other(trained):
    """An evaluation loads a checkpoint and makes nothing of it: a rule may take it once that has ended."""
    saved = trained("saved", model={"name": "starter"})
    measured = trained("measured", model={"name": f"checkpoint:{saved.pk}"}).run
    assert children_of([saved]) == {saved.pk: ("measured",)}
    for kind in ("evaluate", "play"):
        Run.objects.filter(pk=measured.pk).update(kind=kind)
        assert children_of([saved]) == {}
    assert [kin.title for kin in descendants_of(saved)] == ["measured"], (
        "its page tells it all the same"
    )


def test_a_fork_names_its_parent_and_the_parent_its_fork(trained):
    trunk = trained("trunk", step=40, model={"name": "starter"})
    fork = trained(
        "fork", model={"name": f"checkpoint:{trunk.pk}"}, parent=trunk.run, parent_step=40
    )
    assert told(lineage_of(fork))[0][:2] == ("forked from", "trunk, step 40")
    assert [(kin.relation, kin.title) for kin in descendants_of(trunk)] == [("fork", "fork")]
    assert children_of([trunk, fork]) == {trunk.pk: ("fork",)}


def test_what_was_deleted_is_named_all_the_same(trained):
    lost = trained("x", model={"name": "checkpoint:aaaaaaaaaaaa"}, reference={"name": "run:b"})
    assert [(one.kind, one.note) for one in lineage_of(lost).parents] == [
        ("gone", "its run was deleted"),
        ("gone", "it was deleted"),
    ]
    orphan = trained("y", model={"name": "starter"}, parent=None, parent_step=7)
    assert lineage_of(orphan).parents[0].relation == "forked from"


def test_a_merged_copy_knows_what_it_was_made_from(trained, tmp_path, ada):
    parent = trained("adapter", model={"name": "starter"})
    folder = model_write(tmp_path / "merged")
    parents = [{"sha256": parent.sha256, "step": 10}, {"sha256": "f" * 64}]
    (folder / "merged.json").write_text(json.dumps({"parents": parents}))
    merged = external_register(owner=ada, source=str(folder))
    assert [one[:2] for one in told(lineage_of(merged))] == [
        ("merged from", "adapter, step 10"),
        ("merged from", "a checkpoint ffffffffffff"),
    ]
    assert [(kin.kind, kin.title) for kin in descendants_of(parent)] == [("external", "merged")]
    assert children_of([parent]) == {parent.pk: ("merged",)}
    child = trained("child", model={"name": f"external:{merged.pk}"})
    assert told(lineage_of(child))[0][1] == "merged"
    assert [kin.title for kin in descendants_of(merged)] == ["child"]


def test_a_copied_folder_is_recognised_and_a_circle_ends(trained, ada):
    one = trained("one", model={"name": "starter"})
    copied = External.objects.create(
        name="copy", kind="path", source="/x", owner=ada, sha256=one.sha256
    )
    assert told(lineage_of(copied))[0][:2] == ("copy of", "one, step 10")
    Run.objects.update(spec={"model": {"name": f"external:{copied.pk}"}})
    one.run.refresh_from_db()
    kin, depth = lineage_of(one), 0
    while kin.parents:
        kin, depth = kin.parents[0], depth + 1
    assert depth <= 8


def test_odd_specs_break_nothing(trained):
    for spec in ({}, {"model": "x"}, {"model": {"name": None}}, {"reference": 3}):
        checkpoint = trained("odd", **spec)
        assert lineage_of(checkpoint).parents and descendants_of(checkpoint) == []
        assert children_of([checkpoint]) == {} and needs_of([checkpoint]) == {}
