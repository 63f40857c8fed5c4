"""The form is read from the knob classes: every knob is there, with all that its class says of it."""

from __future__ import annotations

import re

import pytest

from orchestrator.selectors.spec_desk import desk_open, desk_read
from orchestrator.selectors.spec_form import SECTIONS, Field, Form, Group, form_of
from orchestrator.selectors.spec_post import SCALARS, spec_of
from orchestrator.selectors.spec_schema import methods_of, section_knobs, top_knobs
from orchestrator.selectors.spec_start import Start, scratch
from tests.orchestrator.posted import fields_of
from tests.orchestrator.selectors.desks import again, opened, posted, shown
from trainer.spec import spec_parse

pytestmark = pytest.mark.django_db

OBJECTIVES = sorted(methods_of("objectives"))


def fields(form: Form) -> dict[str, Field]:
    """Every field by path."""
    return {one.path: one for group in groups(form) for one in (*group.shown, *group.folded)}


def groups(form: Form) -> list[Group]:
    """Every group."""
    return [g for section in form.sections for top in section.groups for g in top.walk()]


def section(form: Form, identity: str) -> Group:
    """The first group of a section."""
    return next(one for one in form.sections if one.id == identity).groups[0]


def test_every_knob_of_the_spec_has_a_place() -> None:
    named = [name for _, _, names in SECTIONS for name in names]
    assert set(named) <= set(top_knobs()), "a section names a knob that the spec has not"
    assert len(form_of({}).sections) == len(SECTIONS), "a new part of the spec landed in 'More'"
    found = {group.path for group in groups(form_of({}))} | set(fields(form_of({})))
    assert found >= set(top_knobs())


@pytest.mark.parametrize("tag", OBJECTIVES)
def test_a_method_brings_its_own_fieldset(tag: str) -> None:
    form = form_of({"objective": {"type": tag}})
    wanted = {
        f"objective.{k.name}" for k in methods_of("objectives")[tag].knobs if k.kind in SCALARS
    }
    assert {path for path in fields(form) if path.startswith("objective.")} == wanted
    assert section(form, "method").entry == methods_of("objectives")[tag]


def test_beside_every_knob_stand_help_unit_range_healthy_range_and_source() -> None:
    page = shown(desk_open(Start(scratch())))
    page = re.sub(r"</?code>|`", "", page)
    for path, one in fields(form_of(scratch())).items():
        start = page.index(f'id="f-{path}"')
        part = page[start : page.find('class="nr-field', start + 1)]
        assert one.knob.help, f"{path} has no help text"
        for words in (one.knob.unit, one.knob.source, one.knob.healthy):
            assert _escaped(words) in part, f"{path}: {words}"
        assert one.range == "" or _escaped(one.range) in part
        assert _escaped(one.knob.help.replace("`", "")[:60]) in part, path


def test_bounds_are_written_as_people_write_them() -> None:
    form = fields(form_of(scratch()))
    assert form["rollout.group_size"].range == "≥ 1, ≤ 1024"
    assert form["rollout.temperature"].range == "> 0, ≤ 10"
    assert form["seed"].range == ""


def test_basic_knobs_are_shown_and_the_rest_is_folded_with_its_count() -> None:
    group = section(form_of({"rollout": {"top_p": 0.9}}), "rollout")
    assert {one.knob.name for one in group.shown} == {
        knob.name for knob in section_knobs("rollout") if knob.basic
    }
    assert group.changed_folded == 1


def test_a_default_typed_out_is_no_change() -> None:
    form = fields(form_of({"rollout": {"top_p": 1, "group_size": "8"}}))
    assert not form["rollout.top_p"].changed
    assert not form["rollout.group_size"].changed


def test_a_default_is_a_hint_and_what_was_typed_is_text() -> None:
    form = fields(form_of({"optimizer": {"type": "adamw", "lr": 5e-4}}))
    assert (form["optimizer.lr"].text, form["optimizer.lr"].placeholder) == ("5e-4", "1e-4")
    assert (form["budget.max_steps"].text, form["budget.max_steps"].placeholder) == ("", "200")


def test_each_error_lands_on_its_field() -> None:
    wrong = {
        "optimizer.lr": "99", "objective.clip_low": "-1", "rollout.group_size": "x",
        "rewards.0.weight": "heavy", "data.eval.0.weight": "0", "budget.max_steps": "-5",
        "data.train.0.options.noise": "7", "_priority": "soon", "_max_restarts": "-1",
    }  # fmt: skip
    values = opened(scratch())
    desk = desk_read({**values, **{path: [text] for path, text in wrong.items()}})
    assert set(desk.places) == set(wrong)
    page = shown(desk)
    for path, text in wrong.items():
        assert fields_of(page)[path] == [text], "what was typed is still there"
        if not path.startswith("_"):
            assert fields(desk.form)[path].problems == desk.places[path]


def test_a_fold_with_an_error_is_open() -> None:
    desk = posted(opened({}), rollout__top_p="2")
    page = shown(desk)
    assert '<details class="nr-more" data-more="rollout" open>' in page


def test_an_error_without_a_field_goes_to_the_nearest_part_above() -> None:
    raw = {"model": {"colour": "red"}, "nonsense": 1, "rewards": [{"type": "nothing-like-it"}]}
    desk = desk_open(Start(raw))
    found = {group.path: group.problems for group in groups(desk.form)}
    assert found["model"] and found["rewards.0"]
    assert any("nonsense" in sentence for sentence in desk.form.problems)


def test_parts_that_do_nothing_are_put_aside_with_the_reason() -> None:
    form = form_of({"objective": {"type": "sft"}})
    silent = {one.id: one.silent for one in form.sections if one.silent}
    assert "samples nothing" in silent["rollout"]
    assert all(s.silent for s in form_of({"kind": "evaluate"}).sections if s.id == "budget")


@pytest.mark.parametrize("tag", OBJECTIVES)
def test_what_is_put_aside_is_still_sent(tag: str) -> None:
    values = opened({"objective": {"type": "grpo"}, "rollout": {"group_size": 4}})
    there = again(posted(values, objective__type=tag))
    assert there["rollout.group_size"] == ["4"]


def test_every_name_is_drawn_once_and_labelled() -> None:
    page = shown(desk_open(Start(scratch())))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert [one for one in ids if ids.count(one) > 1] == []
    for identity in re.findall(r'<label[^>]* for="([^"]+)"', page):
        assert identity in ids
    twice = {n for n, v in fields_of(page).items() if len(v) > 1 and v[0] != "false"}
    assert not twice


def test_everything_is_escaped() -> None:
    nasty = '"><script>alert(1)</script>'
    raw = {
        "name": nasty, "model": {"name": nasty, "options": {nasty: nasty}}, "kind": nasty,
        "objective": {"type": nasty}, "rewards": [{"type": nasty}], nasty: 1,
        "data": {"train": [{"source": nasty, "columns": {nasty: nasty}}]},
    }  # fmt: skip
    page = shown(desk_open(Start(raw)))
    assert "<script" not in page
    assert fields_of(page)["name"] == [nasty]


def _escaped(words: str) -> str:
    from django.utils.html import escape

    return str(escape(words))


def test_what_a_playground_does_not_read_is_silent() -> None:
    told = {group.path: group.silent for group in groups(form_of({"kind": "play"}))}
    for path in ("objective", "data", "optimizer", "rewards", "evaluation", "checkpoint"):
        assert told[path] == "A playground trains and measures nothing.", path
    assert told["play"] == told["model"] == told["resources"] == ""
    other = {group.path: group.silent for group in groups(form_of({}))}
    assert other["play"] == "Only a run of kind play loads these."


def test_a_draft_turned_into_a_playground_leaves_its_training_behind() -> None:
    play = {"models": ["one", "two"]}
    draft = {
        **scratch(),
        "kind": "play",
        "play": play,
        "model": {"name": "starter", "dtype": "float32"},
    }
    assert {"data", "rewards"} <= draft.keys()
    spec = spec_parse(spec_of(draft))
    assert (spec.play.models, spec.model.dtype) == (("one", "two"), "float32")
    assert spec_of({**draft, "kind": "train"})["rewards"] == draft["rewards"], (
        "switching back brings it back"
    )
