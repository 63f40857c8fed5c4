"""From what people typed to a spec: every recipe survives the form, and nothing typed is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.http import QueryDict
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.selectors.knob_text import UNSET, text_of, value_of
from orchestrator.selectors.spec_desk import desk_open, desk_read
from orchestrator.selectors.spec_post import draft_read
from orchestrator.selectors.spec_schema import methods_of, section_knobs, top_knobs
from orchestrator.selectors.spec_start import start_from
from orchestrator.selectors.spec_text import spec_read
from tests.orchestrator.selectors.desks import again, opened, posted, recipe, shown
from trainer.recipebook import recipes
from trainer.registry import family
from trainer.spec import spec_parse

if TYPE_CHECKING:
    from trainer.catalog import Knob

pytestmark = pytest.mark.django_db

RECIPES = [one.name for one in recipes()]
BOTH = 'name = "x"\n[objective]\ntype = "grpo"\n[[rewards]]\ntype = "exact-match"\n'


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_form_and_text(name: str) -> None:
    written = spec_parse(next(one.spec for one in recipes() if one.name == name))
    fields = recipe(name)
    for format in ("toml", "json", "toml"):
        by_form = desk_read({**fields, "_format": [format]})
        assert spec_parse(by_form.spec) == written
        by_text = desk_read({**fields, "_source": ["text"], "_text": [by_form.text]})
        assert spec_parse(by_text.spec) == written
        fields = again(by_text)
    assert spec_parse(desk_read(fields).spec) == written


@pytest.mark.parametrize("tag", sorted(methods_of("objectives")))
def test_a_start_from_any_objective_can_be_sent_as_it_is(tag: str) -> None:
    desk = posted(opened(start_from({"type": tag}).raw))
    assert desk.spec["objective"]["type"] == tag
    assert not desk.review["errors"]


@pytest.mark.parametrize("tag", sorted(methods_of("objectives")))
def test_a_switch_to_any_objective_leaves_nothing_that_it_refuses(tag: str) -> None:
    """From a recipe that sets everything online, and back again."""
    fields = opened(
        BOTH + "[rollout]\ngroup_size = 4\ntop_p = 0.9\n[batch]\nupdates_per_rollout = 2\n"
        'minibatches = 2\n[advantage]\ntype = "rloo"\n[evaluation]\nsamples_per_prompt = 4\n'
    )
    before = posted(fields, objective__clip_high="0.4")
    there = posted(again(before), objective__type=tag)
    paths = {problem["path"] for problem in there.review["errors"]}
    # What is a choice of people among several ways out is said, and changed by nobody.
    method = family("objectives")[tag](type=tag)  # type: ignore[call-arg]
    said = {"advantage"} if "critic" in method.needs else set()
    said |= {"batch.updates_per_rollout", "batch.minibatches"} if method.on_policy else set()
    assert paths <= said
    assert bool(paths) == bool(said)
    assert posted(again(there), objective__type="grpo").spec == before.spec


def test_what_is_left_alone_is_left_out() -> None:
    desk = posted(opened(BOTH))
    named = {"model": {"name": "starter"}, "data": {"train": [{"source": "arithmetic"}]}}
    assert spec_read(desk.text) == spec_read(BOTH) | named


def test_numbers_are_read_by_the_schema_and_written_as_typed() -> None:
    desk = posted(opened(BOTH), optimizer__lr="3e-4", batch__prompts_per_step="32", seed="7")
    assert desk.spec["optimizer"] == {"type": "adamw", "lr": 0.0003}
    assert desk.spec["batch"] == {"prompts_per_step": 32}
    assert desk.spec["seed"] == 7
    assert "lr = 3e-4" in desk.text


def test_what_does_not_fit_stays_in_its_field() -> None:
    desk = posted(opened(BOTH), optimizer__lr="fast", batch__prompts_per_step="4.5", seed="-1")
    paths = {problem["path"] for problem in desk.review["errors"]}
    assert paths == {"optimizer.lr", "batch.prompts_per_step", "seed"}
    fields = again(desk)
    assert fields["optimizer.lr"] == ["fast"]
    assert fields["batch.prompts_per_step"] == ["4.5"]
    assert fields["seed"] == ["-1"]


def test_a_switch_swaps_the_knobs_and_carries_no_knob_of_another_meaning() -> None:
    fields = again(posted(opened(BOTH), objective__beta="0.3", objective__clip_high="0.4"))
    desk = posted(fields, objective__type="dpo")
    assert "objective.clip_high" not in again(desk)
    assert desk.spec["objective"] == {"type": "dpo"}  # beta of GRPO weighs a KL term
    assert "advantage" not in desk.spec


def test_a_switch_carries_what_both_describe_in_the_same_words() -> None:
    one = posted(opened(BOTH), schedule__type="cosine", schedule__warmup_steps="7")
    two = posted(again(one), schedule__warmup_steps="7")
    desk = posted(again(two), schedule__type="linear")
    assert desk.spec["schedule"] == {"type": "linear", "warmup_steps": 7}


def test_a_switch_back_brings_everything_back() -> None:
    fields = opened(
        BOTH + "[rollout]\ngroup_size = 4\n[batch]\nupdates_per_rollout = 2\n"
        '[advantage]\ntype = "group-mean-std"\n'
    )
    before = posted(fields, objective__clip_high="0.4", objective__beta="0.05")
    there = posted(again(before), objective__type="dpo")
    assert "updates_per_rollout" not in str(there.spec)
    further = posted(again(there), objective__type="sft")
    back = posted(again(further), objective__type="grpo")
    assert back.spec == before.spec


def test_a_half_typed_knob_survives_a_switch() -> None:
    fields = again(posted(opened(BOTH), objective__clip_high="0.2x"))
    there = again(posted(fields, objective__type="sft"))
    assert again(posted(there, objective__type="grpo"))["objective.clip_high"] == ["0.2x"]


def test_rewards_are_added_and_removed() -> None:
    one = posted(opened(BOTH), rewards__0__weight="0.5")
    two = posted(again(one), _do="add rewards format-regex")
    same = posted(again(two), _do="add rewards exact-match")
    assert [item["type"] for item in same.spec["rewards"]] == [
        "exact-match", "format-regex", "exact-match",
    ]  # fmt: skip
    assert same.spec["rewards"][2]["name"] == "exact-match-2"
    left = posted(again(same), _do="remove rewards.1")
    assert left.spec["rewards"] == [
        {"type": "exact-match", "weight": 0.5},
        {"type": "exact-match", "name": "exact-match-2"},
    ]
    none = posted(again(posted(again(left), _do="remove rewards.0")), _do="remove rewards.0")
    assert not none.spec.get("rewards")
    assert [problem["path"] for problem in none.review["errors"]] == ["rewards"]


def test_sources_of_rows_are_added_and_removed() -> None:
    one = posted(opened(BOTH), data__train__0__weight="2")
    two = posted(again(one), _do="add data.train")
    assert two.spec["data"]["train"] == [
        {"source": "arithmetic", "weight": 2},
        {"source": "arithmetic"},
    ]
    other = posted(again(two), data__train__1__source="noisy-sort")
    held = posted(again(other), _do="add data.eval noisy-sort")
    assert held.spec["data"]["eval"] == [{"source": "noisy-sort"}]
    left = posted(again(held), _do="remove data.train.0")
    assert left.spec["data"]["train"] == [{"source": "noisy-sort"}]


def test_another_source_has_other_options_and_the_first_keeps_its_own() -> None:
    fields = opened('[[data.train]]\nsource = "noisy-sort"\noptions = { digits = 3 }\n')
    there = posted(fields, data__train__0__source="arithmetic")
    assert there.spec["data"]["train"] == [{"source": "arithmetic"}]
    back = posted(again(there), data__train__0__source="noisy-sort")
    assert back.spec["data"]["train"] == [{"source": "noisy-sort", "options": {"digits": 3}}]


def test_kept_texts_move_with_their_items() -> None:
    fields = again(posted(opened(BOTH), _do="add rewards format-regex"))
    fields = again(posted(fields, **{"rewards__1__pattern": "a+"}))
    swapped = posted(fields, rewards__1__type="length-window")
    alone = posted(again(swapped), _do="remove rewards.0")
    back = posted(again(alone), rewards__0__type="format-regex")
    assert back.spec["rewards"] == [{"type": "format-regex", "pattern": "a+"}]


def test_faulty_text_leaves_the_fields_and_says_the_line() -> None:
    desk = desk_read({**opened(BOTH), "_source": ["text"], "_text": ['name = "y"\n[batch\n']})
    assert desk.text_line == 2 and not desk.launchable
    assert desk.text == 'name = "y"\n[batch\n'
    assert desk.spec["name"] == "x"


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 50_000,
        '{"a": ' + "[" * 50_000,
        "seed = " + "9" * 5_000,
        '{"seed": ' + "9" * 5_000 + "}",
        '{"name": "\\ud800"}',
        '{"name": "\\u0000"}',
        '{"seed": NaN, "optimizer": {"type": "adamw", "lr": Infinity}}',
        "data = 3\nmodel = []\nrewards = { a = 1 }\nobjective = [1]\n",
        "[data]\ntrain = [1, 2]\neval = 3\n",
        "[[rewards]]\ntype = []\n[[rewards]]\n",
        '[model]\nname = "run:\\u0000"\n',
        "[optimizer]\nlr = 1979-05-27\n",
        "when = 07:32:00\n",
    ],
)
def test_odd_text_is_refused_with_a_sentence_and_drawn(text: str) -> None:
    desk = desk_read({**opened(BOTH), "_source": ["text"], "_text": [text]})
    assert not desk.launchable
    assert shown(desk).encode()
    assert str(desk.places).encode()


SCALAR = {"text", "integer", "number", "boolean", "choice", "list", "mapping"}
SECTIONS = ("model", "data", "data.train", "rollout", "batch", "budget", "resources")
KNOBS: list[Knob] = [
    knob
    for knobs in (tuple(top_knobs().values()), *map(section_knobs, SECTIONS))
    for knob in knobs
    if knob.kind in SCALAR
]


@given(st.sampled_from(KNOBS), st.text(max_size=40))
@example(next(knob for knob in KNOBS if knob.kind == "mapping"), "# nothing")
def test_a_field_shows_again_what_was_typed(knob: Knob, text: str) -> None:
    value = value_of(knob, text)
    if value is UNSET:
        assert not text.strip() or (knob.kind == "mapping" and text.lstrip()[0] in "#{")
        return
    shown_text = text_of(knob, value)
    assert value_of(knob, shown_text) == value, shown_text


WORDS = st.sampled_from(
    ["", "0", "2", "99", "x", "grpo", "dpo", "none", "adamw", "exact-match", "arithmetic", "true",
     "run:", "checkpoint:aaaaaaaaaaaa", "aaaaaaaaaaaa", "{}", "[]", "null", '{"a": {"b": {"c": 1}}}',
     "add rewards exact-match", "add data", "add a.b.c", "remove rewards.0", "remove data.train.9",
     "text", "\x00", "run:\x00", "-1", "1e999"]
) | st.text(max_size=6)  # fmt: skip


OTHERS = [
    "_do", "_kept", "_text", "_source", "_format", "_tags", "_priority", "_max_restarts",
    "rewards.9.type", "nothing", "a.b",
]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_post_breaks_it(data: st.DataObject) -> None:
    fields: dict[str, Any] = dict(opened(BOTH))
    known = st.sampled_from([*sorted(fields), *OTHERS])
    for name, word in data.draw(st.dictionaries(known, WORDS, max_size=6)).items():
        fields[name] = [word]
    for name in data.draw(st.sets(st.sampled_from(sorted(fields)), max_size=4)):
        del fields[name]
    desk = desk_read(fields)
    assert shown(desk).encode()
    if desk.launchable:
        spec_parse(desk.order["spec"])


def test_an_empty_post_is_an_empty_draft() -> None:
    assert draft_read(dict(QueryDict("").lists())).raw == {}
    assert desk_open(start_from({})).launchable
